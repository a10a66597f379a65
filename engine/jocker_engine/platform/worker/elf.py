"""What an ELF file needs to run: its loader and libraries, found as the system's loader would. Standard
library only.

Nothing is executed. Sources: System V ABI (gABI) chapters 4 and 5; ld.so(8) for the order of the search;
for the caches sysdeps/generic/dl-cache.h of glibc and sys/elf-hints.h of FreeBSD.
"""

from __future__ import annotations

import glob
import os
import struct
import sys
from collections.abc import Iterator
from dataclasses import dataclass

FREEBSD = sys.platform.startswith("freebsd")
CACHE_FILES = (
    ("/var/run/ld-elf.so.hints",) if FREEBSD else ("/etc/ld.so.cache", *glob.glob("/etc/ld-musl-*.path"))
)
"""What tells the loader of more directories; a copied root needs it as well."""

_DEFAULT_DIRECTORIES = (
    ("/lib", "/usr/lib", "/usr/local/lib")
    if FREEBSD
    else (
        "/lib/*-linux-*",
        "/usr/lib/*-linux-*",
        "/lib64",
        "/usr/lib64",
        "/lib",
        "/usr/lib",
        "/usr/local/lib",
    )
)

_PT_LOAD, _PT_DYNAMIC, _PT_INTERP = 1, 2, 3
_DT_NEEDED, _DT_STRTAB, _DT_RPATH, _DT_RUNPATH = 1, 5, 15, 29
_DT_AUXILIARY, _DT_FILTER = 0x7FFFFFFD, 0x7FFFFFFF
_GLIBC_MAGIC = b"glibc-ld.so.cache1.1"
_HINTS_MAGIC = 0x746E6845


@dataclass(frozen=True)
class Elf:
    """The headers that matter. `machine` is class, byte order, architecture: what may be loaded together."""

    path: str
    machine: tuple[int, int, int]
    interpreter: str = ""
    needed: tuple[str, ...] = ()
    rpath: tuple[str, ...] = ()
    runpath: tuple[str, ...] = ()
    filtees: tuple[str, ...] = ()
    """Libraries that its symbols are taken from where they are there, as those of FreeBSD 15's libc are from libsys."""


def read_elf(path: str) -> Elf | None:
    """The headers of an ELF file; None for anything else, also for a truncated one. Raises OSError."""
    with open(path, "rb") as file:
        ident = file.read(16)
        if len(ident) < 16 or ident[:4] != b"\x7fELF" or ident[4] not in (1, 2) or ident[5] not in (1, 2):
            return None
        try:
            return _parse(path, ident, file.fileno())
        except struct.error:
            return None


def _parse(path: str, ident: bytes, file: int) -> Elf:
    order = "<" if ident[5] == 1 else ">"
    wide = ident[4] == 2

    def unpack(form: str, offset: int) -> tuple[int, ...]:
        form = order + form
        return struct.unpack(form, os.pread(file, struct.calcsize(form), offset))

    machine, phoff, phentsize, phnum = _pick(unpack("HHIQQQIHHH" if wide else "HHIIIIIHHH", 16), 1, 4, 8, 9)
    loads: list[tuple[int, int, int]] = []
    interpreter, dynamic = "", (0, 0)
    for at in range(phoff, phoff + phnum * phentsize, phentsize):
        if wide:
            kind, _, offset, address, _, size = unpack("IIQQQQ", at)
        else:
            kind, offset, address, _, size = unpack("IIIII", at)
        if kind == _PT_LOAD:
            loads.append((address, offset, size))
        elif kind == _PT_DYNAMIC:
            dynamic = (offset, size)
        elif kind == _PT_INTERP:
            interpreter = os.fsdecode(os.pread(file, size, offset).rstrip(b"\0"))

    entry = "qQ" if wide else "iI"
    step = 16 if wide else 8
    tags: list[tuple[int, int]] = []
    for at in range(dynamic[0], dynamic[0] + dynamic[1], step):
        tag, value = unpack(entry, at)
        if tag == 0:
            break
        tags.append((tag, value))
    table = next((value for tag, value in tags if tag == _DT_STRTAB), 0)
    strings = next(
        (offset + table - start for start, offset, size in loads if start <= table < start + size), None
    )

    def text(tag: int) -> tuple[str, ...]:
        if strings is None:
            return ()
        found = (os.pread(file, 4096, strings + value) for key, value in tags if key == tag)
        return tuple(os.fsdecode(data.split(b"\0", 1)[0]) for data in found)

    def paths(tag: int) -> tuple[str, ...]:
        return tuple(item for value in text(tag) for item in value.split(":") if item)

    return Elf(
        path,
        (ident[4], ident[5], machine),
        interpreter,
        text(_DT_NEEDED),
        paths(_DT_RPATH),
        paths(_DT_RUNPATH),
        text(_DT_AUXILIARY) + text(_DT_FILTER),
    )


def _pick(values: tuple[int, ...], *indices: int) -> Iterator[int]:
    return (values[index] for index in indices)


class Libraries:
    """Where this host's libraries are."""

    def __init__(self) -> None:
        self._cached: dict[str, list[str]] = {}
        self._directories: list[str] = []
        for name in CACHE_FILES:
            self._read_cache(name)
        for pattern in _DEFAULT_DIRECTORIES:
            self._directories += sorted(glob.glob(pattern))

    def _read_cache(self, name: str) -> None:
        try:
            with open(name, "rb") as file:
                data = file.read()
        except OSError:
            return  # no cache: the default directories are all there is
        if name.endswith(".path"):
            self._directories += data.decode().replace("\n", ":").split(":")
        elif FREEBSD:
            self._directories += parse_hints(data)
        else:
            for soname, path in parse_glibc_cache(data):
                self._cached.setdefault(soname, []).append(path)

    def find(self, soname: str, user: Elf, inherited: tuple[str, ...] = ()) -> list[str]:
        """Paths of a library that `user` needs; several when the cache has variants for different CPUs.

        `inherited` are the RPATHs of those that loaded the user.
        """
        if "/" in soname:
            return [soname] if _fits(soname, user) else []
        own = user.runpath or (*user.rpath, *inherited)
        for directory in expand(own, user.path):
            if _fits(path := os.path.join(directory, soname), user):
                return [path]
        if cached := [path for path in self._cached.get(soname, ()) if _fits(path, user)]:
            return cached
        for directory in self._directories:
            if _fits(path := os.path.join(directory, soname), user):
                return [path]
        return []


def expand(paths: tuple[str, ...], user: str) -> list[str]:
    """RPATH or RUNPATH with $ORIGIN (ld.so(8)): as the file was named, and where it really is; other
    tokens are left out.
    """
    found: list[str] = []
    for path in paths:
        for origin in dict.fromkeys((os.path.dirname(user), os.path.dirname(os.path.realpath(user)))):
            directory = path.replace("${ORIGIN}", origin).replace("$ORIGIN", origin)
            if "$" not in directory and directory not in found:
                found.append(directory)
    return found


def _fits(path: str, user: Elf) -> bool:
    try:
        library = read_elf(path)
    except OSError:
        return False
    return library is not None and library.machine == user.machine


def parse_glibc_cache(data: bytes) -> list[tuple[str, str]]:
    """(soname, path) of /etc/ld.so.cache, in its order; the new format, also when it follows the old one."""
    start = data.find(_GLIBC_MAGIC)
    if start < 0 or len(data) < start + 48:
        return []
    data = data[start:]
    (count,) = struct.unpack_from("=I", data, len(_GLIBC_MAGIC))
    found = []
    for at in range(48, min(48 + count * 24, len(data) - 23), 24):
        key, value = struct.unpack_from("=II", data, at + 4)
        found.append((_string(data, key), _string(data, value)))
    return found


def parse_hints(data: bytes) -> list[str]:
    """The directories in FreeBSD's ld-elf.so.hints."""
    if len(data) < 24:
        return []
    magic, _, strings, _, offset, length = struct.unpack_from("=6I", data)
    if magic != _HINTS_MAGIC:
        return []
    at = strings + offset
    return [item for item in os.fsdecode(data[at : at + length]).split(":") if item]


def _string(data: bytes, at: int) -> str:
    return os.fsdecode(data[at : data.find(b"\0", at)])
