"""ELF headers, caches of the loader, and the search for libraries."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import need
from jocker_engine.platform.worker.elf import Elf, Libraries, expand, parse_glibc_cache, parse_hints, read_elf


def make_elf(wide: bool, order: str) -> bytes:
    """A small library: one PT_LOAD over all, PT_INTERP, PT_DYNAMIC with two needed libraries, search paths, and a
    library that it is an auxiliary filter of.
    """
    strings = b"\0liba.so\0libb.so\0/r/one:$ORIGIN/../lib\0/u\0/lib/ld.so\0libsys\0"
    at = {text: strings.index(text) for text in (b"liba", b"libb", b"/r/", b"/u", b"/lib/ld", b"libsys")}
    base = 0x1000  # addresses are not offsets
    header, entry, start = (64, 56, "64s") if wide else (52, 32, "52s")
    tables = header + 3 * entry
    dynamic_at = tables + len(strings)
    tags = [(1, at[b"liba"]), (1, at[b"libb"]), (5, base + tables), (15, at[b"/r/"]), (29, at[b"/u"])]
    tags += [(0x7FFFFFFD, at[b"libsys"]), (0, 0)]
    dynamic = b"".join(struct.pack(order + ("qQ" if wide else "iI"), *tag) for tag in tags)
    total = dynamic_at + len(dynamic)

    def program(kind: int, offset: int, size: int) -> bytes:
        if wide:
            return struct.pack(order + "IIQQQQQQ", kind, 4, offset, base + offset, 0, size, size, 8)
        return struct.pack(order + "IIIIIIII", kind, offset, base + offset, 0, size, size, 4, 8)

    ident = b"\x7fELF" + bytes([2 if wide else 1, 1 if order == "<" else 2, 1]) + bytes(9)
    form = "HHIQQQIHHHHHH" if wide else "HHIIIIIHHHHHH"
    head = ident + struct.pack(order + form, 3, 62, 1, 0, header, 0, 0, header, entry, 3, 0, 0, 0)
    interpreter = tables + at[b"/lib/ld"]
    programs = program(1, 0, total) + program(3, interpreter, 11) + program(2, dynamic_at, len(dynamic))
    return struct.pack(start, head) + programs + strings + dynamic


@pytest.mark.parametrize("wide", [True, False])
@pytest.mark.parametrize("order", ["<", ">"])
def test_headers(tmp_path: Path, wide: bool, order: str) -> None:
    path = tmp_path / "lib.so"
    path.write_bytes(make_elf(wide, order))
    assert read_elf(str(path)) == Elf(
        str(path), (2 if wide else 1, 1 if order == "<" else 2, 62), "/lib/ld.so", ("liba.so", "libb.so"),
        ("/r/one", "$ORIGIN/../lib"), ("/u",), ("libsys",),
    )  # fmt: skip


def test_what_is_no_elf(tmp_path: Path) -> None:
    path = tmp_path / "file"
    for content in (
        b"",
        b"#!/bin/sh\n",
        b"\x7fELF",
        b"\x7fELF\x02\x01" + bytes(20),
        b"\x7fELF\x09\x01" + bytes(60),
    ):
        path.write_bytes(content)
        assert read_elf(str(path)) is None


def test_it_reads_what_readelf_reads() -> None:
    program = os.path.realpath(sys.executable)
    need(shutil.which("readelf"), "readelf is not installed")
    out = subprocess.run(["readelf", "-d", program], capture_output=True, text=True, check=True).stdout
    needed = tuple(line.split("[")[1].rstrip("]") for line in out.splitlines() if "(NEEDED)" in line)
    elf = read_elf(program)
    assert elf is not None
    assert elf.needed == needed


def test_search_order(tmp_path: Path) -> None:
    """RUNPATH hides RPATH; without it the RPATHs of the loaders count too; other architectures are passed
    over.
    """
    library = make_elf(True, "<")
    for name in ("own", "inherited", "run", "wrong"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "libjockertest.so").write_bytes(library)
    (tmp_path / "wrong" / "libjockertest.so").write_bytes(make_elf(False, "<"))
    own, inherited, run, wrong = (str(tmp_path / name) for name in ("own", "inherited", "run", "wrong"))
    machine = (2, 1, 62)
    found = Libraries().find
    where = "libjockertest.so"
    assert found(where, Elf("/x", machine, rpath=(own,)), (inherited,)) == [f"{own}/{where}"]
    assert found(where, Elf("/x", machine), (inherited,)) == [f"{inherited}/{where}"]
    assert found(where, Elf("/x", machine, rpath=(own,), runpath=(run,)), (inherited,)) == [f"{run}/{where}"]
    assert found(where, Elf("/x", machine, runpath=(wrong, run))) == [f"{run}/{where}"]
    assert found(where, Elf("/x", machine, runpath=(wrong,)), (inherited,)) == []
    assert found(f"{own}/{where}", Elf("/x", machine)) == [f"{own}/{where}"]


def test_origin_is_where_the_file_is_and_where_its_link_is(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "program").touch()
    (tmp_path / "program").symlink_to("real/program")
    paths = ("$ORIGIN/lib", "${ORIGIN}", "/plain", "/$LIB/x")
    assert expand(paths, str(tmp_path / "program")) == [
        f"{tmp_path}/lib", f"{tmp_path}/real/lib", str(tmp_path), f"{tmp_path}/real", "/plain",
    ]  # fmt: skip


def test_cache_of_glibc() -> None:
    names = b"libc.so.6\0/lib/libc.so.6\0libx.so\0/opt/libx.so\0"
    strings = 48 + 2 * 24
    entries = b"".join(
        struct.pack("=iIIIQ", 0x303, strings + names.index(soname), strings + names.index(path), 0, 0)
        for soname, path in ((b"libc.so.6", b"/lib/libc"), (b"libx.so", b"/opt"))
    )
    cache = b"glibc-ld.so.cache1.1" + struct.pack("=IIB3xI12x", 2, len(names), 2, 0) + entries + names
    expected = [("libc.so.6", "/lib/libc.so.6"), ("libx.so", "/opt/libx.so")]
    assert parse_glibc_cache(cache) == expected
    assert parse_glibc_cache(b"ld.so-1.7.0\0old format" + cache) == expected
    assert parse_glibc_cache(b"") == parse_glibc_cache(cache[:30]) == []


def test_hints_of_freebsd() -> None:
    directories = b"/lib:/usr/lib:/usr/local/lib"
    hints = (
        struct.pack("=6I", 0x746E6845, 1, 128, len(directories) + 1, 0, len(directories))
        + bytes(104)
        + directories
    )
    assert parse_hints(hints) == ["/lib", "/usr/lib", "/usr/local/lib"]
    assert parse_hints(b"") == parse_hints(bytes(200)) == []
