"""Worker operations: a distribution archive (base.txz) with its MANIFEST, and what a new root takes from this host.

MANIFEST, beside the archive, has a line for each: name, sha256, number of files, and more, divided by tabs (FreeBSD,
release(7), bsdinstall(8)). Blocking; standard library only.
"""

from __future__ import annotations

import hashlib
import os
import posixpath
import re
import shutil
import urllib.parse

from ..rootfs import resolve
from .fetch import FetchError, fetch

MANIFEST = "MANIFEST"
_HOST_FILES = {"dns": "/etc/resolv.conf", "localtime": "/etc/localtime"}


def fetch_distribution(source: str, target: str, unverified: bool = False) -> dict[str, str]:
    """Have an archive here, whole and as its MANIFEST says. `source` is a URL, or a path of this host.

    Returns {"path", "sha256"}; from a URL it is in the directory `target`. Without a MANIFEST it is refused, unless
    `unverified`. Raises FetchError, OSError.
    """
    if source.startswith("file://"):
        source = urllib.parse.unquote(urllib.parse.urlsplit(source).path)
    if "://" in source:
        return _from_url(source, target, unverified)
    path = os.path.abspath(source)
    wanted = _wanted(_read(os.path.join(os.path.dirname(path), MANIFEST)), path, unverified)
    with open(path, "rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if wanted and found != wanted:
        raise FetchError(f"{path}: its sha256 is {found}, and MANIFEST says {wanted}: the file is damaged")
    return {"path": path, "sha256": found}


def _from_url(source: str, target: str, unverified: bool) -> dict[str, str]:
    parts = urllib.parse.urlsplit(source)
    name = posixpath.basename(parts.path)
    if not name:
        raise FetchError(f"{source}: name an archive, such as {source.rstrip('/')}/base.txz")
    beside = parts._replace(path=posixpath.join(posixpath.dirname(parts.path), MANIFEST), query="").geturl()
    try:
        fetch([beside], target, max_bytes=1 << 20, max_seconds=60)
    except FetchError as error:
        if not unverified or not re.search("HTTP status 40[34]", str(error)):
            raise FetchError(f"{error}; without it the archive cannot be verified") from None
    wanted = _wanted(_read(os.path.join(target, MANIFEST)), name, unverified)
    found = fetch([source], target, checksum=f"sha256:{wanted}" if wanted else "")
    return {"path": os.path.join(target, urllib.parse.unquote(name)), "sha256": found["digests"][0]}


def _read(path: str) -> str | None:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except FileNotFoundError:
        return None


def _wanted(manifest: str | None, archive: str, unverified: bool) -> str:
    """The sha256 that the archive must have; "" when it need not."""
    name = os.path.basename(archive)
    if manifest is not None and (found := checksum(manifest, name)):
        return found
    if unverified:
        return ""
    why = (
        "there is no MANIFEST beside it"
        if manifest is None
        else f"the MANIFEST beside it has no sha256 of {name}"
    )
    raise FetchError(f"{archive} cannot be verified: {why}; --force takes it as it is")


def checksum(manifest: str, name: str) -> str:
    """The sha256 in hex that a MANIFEST has for a file; "" if none."""
    for line in manifest.splitlines():
        fields = line.split("\t")
        if fields[0] == name and len(fields) > 1 and re.fullmatch("[0-9a-fA-F]{64}", fields[1]):
            return fields[1].lower()
    return ""


def host_settings(target: str, names: list[str]) -> dict[str, list[str]]:
    """Copy what this host has of "dns" and "localtime" into a root; what it has not is left out."""
    done = []
    for name in names:
        source = _HOST_FILES[name]
        if not os.path.isfile(source):
            continue
        path = os.path.join(resolve(target, os.path.dirname(source), create=True), os.path.basename(source))
        if os.path.lexists(path):
            os.unlink(path)
        shutil.copyfile(source, path)
        os.chmod(path, 0o644)
        done.append(source)
    return {"copied": done}
