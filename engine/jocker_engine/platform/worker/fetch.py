"""Worker operation: what ADD gets from URLs. Blocking; standard library only.

HTTP and HTTPS, also after redirections; proxies as the engine's environment names them.
"""

from __future__ import annotations

import email.utils
import hashlib
import http.client
import os
import posixpath
import time
import urllib.error
import urllib.parse
import urllib.request
from typing import IO, Any

MAX_BYTES = 1 << 34
MAX_SECONDS = 1800.0
_SILENCE = 60.0
"""Seconds that a server may say nothing."""
_CHUNK = 1 << 20


class FetchError(Exception):
    """It cannot be had; one line for the user."""


def fetch(
    urls: list[str],
    target: str,
    checksum: str = "",
    max_bytes: int = MAX_BYTES,
    max_seconds: float = MAX_SECONDS,
) -> dict[str, list[str]]:
    """Get URLs into files of the directory `target`, mode 600, with the time of Last-Modified.

    A file is called as the last part of the URL's path. `checksum`, ALGORITHM:HEX, is that of the only one. Limits
    are for each. Returns {"digests": sha256 of each in hex}. Raises FetchError, OSError.
    """
    opener = urllib.request.build_opener(_OnlyHttp)
    opener.addheaders = [("User-Agent", "jocker"), ("Accept", "*/*"), ("Accept-Encoding", "identity")]
    digests = []
    for url in urls:
        try:
            digests.append(_get(opener, url, target, checksum, max_bytes, time.monotonic() + max_seconds))
        except urllib.error.HTTPError as error:
            reason = " ".join(str(error.reason).split())
            raise FetchError(f"{_shown(url)}: HTTP status {error.code}: {reason}") from None
        except urllib.error.URLError as error:
            raise FetchError(
                f"{_shown(url)}: {getattr(error.reason, 'strerror', None) or error.reason}"
            ) from None
        except (http.client.HTTPException, TimeoutError, ConnectionError, ValueError) as error:
            raise FetchError(f"{_shown(url)}: {error or type(error).__name__}") from None
    return {"digests": digests}


class _OnlyHttp(urllib.request.HTTPRedirectHandler):
    """A redirection to file: or ftp: is none that we follow."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        if urllib.parse.urlsplit(newurl).scheme not in ("http", "https"):
            raise urllib.error.URLError(f"it redirects to {newurl}, which is neither http nor https")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _get(
    opener: urllib.request.OpenerDirector, url: str, target: str, checksum: str, most: int, deadline: float
) -> str:
    path = os.path.join(target, file_name(url))
    algorithm, _, wanted = checksum.partition(":")
    sums = {name: hashlib.new(name) for name in {"sha256", algorithm or "sha256"}}
    size = 0
    with opener.open(url, timeout=_SILENCE) as response, open(path, "wb") as file:
        expected = response.length
        while data := response.read(_CHUNK):
            size += len(data)
            if size > most:
                raise FetchError(f"{_shown(url)}: is longer than {most} bytes, the most that ADD takes")
            if time.monotonic() > deadline:
                raise FetchError(f"{_shown(url)}: takes too long")
            for one in sums.values():
                one.update(data)
            file.write(data)
        if expected is not None and size < expected:
            raise FetchError(f"{_shown(url)}: ended after {size} of {expected} bytes")
        modified = _time(response.headers.get("Last-Modified"))
    if wanted and sums[algorithm].hexdigest() != wanted:
        raise FetchError(f"{_shown(url)}: its {algorithm} is {sums[algorithm].hexdigest()}, not {wanted}")
    os.chmod(path, 0o600)
    if modified is not None:
        os.utime(path, (modified, modified))
    return sums["sha256"].hexdigest()


def file_name(url: str) -> str:
    """The last part of a URL's path; "__unnamed__" where it has none, as in BuildKit."""
    name = posixpath.basename(urllib.parse.unquote(urllib.parse.urlsplit(url).path).rstrip("/"))
    return name.replace("\0", "") if name.strip(".\0") else "__unnamed__"


def _time(text: str | None) -> float | None:
    try:
        return email.utils.parsedate_to_datetime(text).timestamp() if text else None
    except (ValueError, OverflowError):
        return None


def _shown(url: str) -> str:
    """Without a password."""
    parts = urllib.parse.urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
