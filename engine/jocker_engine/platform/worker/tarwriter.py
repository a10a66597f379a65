"""Tar headers, always the same for the same entry. Pure; standard library only.

The form is ustar (POSIX.1-1988); a pax extended header (POSIX.1-2001, pax(1)) comes before it only where ustar has
no room. Names of users and groups are empty, times are whole seconds, as in the layers that Docker makes.
"""

from __future__ import annotations

import os
import stat

BLOCK = 512
END = bytes(2 * BLOCK)
"""What an archive ends with."""

FILE, LINK, SYMLINK, CHARACTER, BLOCK_DEVICE, DIRECTORY, FIFO = b"0", b"1", b"2", b"3", b"4", b"5", b"6"
_KINDS = {
    stat.S_IFREG: FILE,
    stat.S_IFLNK: SYMLINK,
    stat.S_IFCHR: CHARACTER,
    stat.S_IFBLK: BLOCK_DEVICE,
    stat.S_IFDIR: DIRECTORY,
    stat.S_IFIFO: FIFO,
}
_PAX = b"x"
_NAME = 100
"""Bytes of a name or link target in a ustar header."""
_ID = 0o7777777
_SIZE = 0o77777777777


def has_form(status: os.stat_result) -> bool:
    """Whether a tar can have it: all but sockets."""
    return stat.S_IFMT(status.st_mode) in _KINDS


def header(
    name: str,
    status: os.stat_result,
    *,
    target: str = "",
    link: bool = False,
    xattrs: dict[str, bytes] | None = None,
) -> bytes:
    """The blocks before an entry's content. `target` is that of a symlink, or, with `link`, of a hard link."""
    kind = LINK if link else _KINDS[stat.S_IFMT(status.st_mode)]
    device = status.st_rdev if kind in (CHARACTER, BLOCK_DEVICE) else 0
    return plain(
        os.fsencode(name) + (b"/" if kind == DIRECTORY else b""),
        kind,
        mode=0o777 if kind == SYMLINK else stat.S_IMODE(status.st_mode),  # FreeBSD's follow the umask
        uid=status.st_uid,
        gid=status.st_gid,
        size=status.st_size if kind == FILE else 0,
        mtime=status.st_mtime_ns // 10**9,
        target=os.fsencode(target),
        device=(os.major(device), os.minor(device)),
        xattrs={} if link else xattrs or {},
    )


def plain(
    name: bytes,
    kind: bytes = FILE,
    *,
    mode: int = 0o644,
    uid: int = 0,
    gid: int = 0,
    size: int = 0,
    mtime: int = 0,
    target: bytes = b"",
    device: tuple[int, int] = (0, 0),
    xattrs: dict[str, bytes] | None = None,
) -> bytes:
    """The same from its parts."""
    records: dict[bytes, bytes] = {}
    if len(name) > _NAME or not name.isascii():
        records[b"path"] = name
    if len(target) > _NAME or not target.isascii():
        records[b"linkpath"] = target
    for key, value, limit in ((b"uid", uid, _ID), (b"gid", gid, _ID), (b"size", size, _SIZE)):
        if value > limit:
            records[key] = b"%d" % value
    if not 0 <= mtime <= _SIZE:
        records[b"mtime"] = b"%d" % mtime
    for xattr, content in (xattrs or {}).items():
        records[b"SCHILY.xattr." + os.fsencode(xattr)] = content
    main = _block(name, kind, mode, uid, gid, size, mtime, target, device)
    if not records:
        return main
    body = b"".join(_record(key, records[key]) for key in sorted(records))
    pax = _block(
        b"PaxHeaders/" + name[: _NAME - 11].rstrip(b"/"), _PAX, 0o644, 0, 0, len(body), 0, b"", (0, 0)
    )
    return pax + body + padding(len(body)) + main


def padding(size: int) -> bytes:
    """Zeros up to the next block."""
    return bytes(-size % BLOCK)


def _record(key: bytes, value: bytes) -> bytes:
    """`LENGTH KEY=VALUE\\n`, where the length counts its own digits too."""
    rest = len(key) + len(value) + 3
    length = rest
    while (whole := rest + len(str(length))) != length:
        length = whole
    return b"%d %b=%b\n" % (length, key, value)


def _block(
    name: bytes,
    kind: bytes,
    mode: int,
    uid: int,
    gid: int,
    size: int,
    mtime: int,
    target: bytes,
    device: tuple[int, int],
) -> bytes:
    block = bytearray(
        b"".join(
            (
                name[:_NAME].ljust(_NAME, b"\0"),
                b"%07o\0" % mode,
                b"%07o\0" % (uid if uid <= _ID else 0),
                b"%07o\0" % (gid if gid <= _ID else 0),
                b"%011o\0" % (size if size <= _SIZE else 0),
                b"%011o\0" % (mtime if 0 <= mtime <= _SIZE else 0),
                b" " * 8,
                kind,
                target[:_NAME].ljust(_NAME, b"\0"),
                b"ustar\x0000",
                bytes(64),
                b"%07o\0" % device[0],
                b"%07o\0" % device[1],
                bytes(167),
            )
        )
    )
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)
