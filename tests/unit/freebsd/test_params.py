"""--jail-param: what is taken, what is refused and why, and the description that comes of it."""

from __future__ import annotations

import re

import pytest
from real import said

from jocker_engine.platform.commands import PlatformError
from jocker_engine.platform.freebsd.params import (
    Param,
    check,
    describe,
    kernel_parameters,
    quote,
    value_of,
    wants,
)

KERNEL = kernel_parameters(said("jail-rctl", "sysctl -N security.jail.param"))


def test_what_the_kernel_lists() -> None:
    assert {"vnet", "allow.raw_sockets", "host.hostname", "ip4.addr", "allow.mount.", "meta"} <= KERNEL
    assert not any(name.startswith("security") for name in KERNEL)


@pytest.mark.parametrize(
    ("given", "params"),
    [
        ("allow.raw_sockets", [Param("allow.raw_sockets")]),
        ("allow.noraw_sockets", [Param("allow.noraw_sockets")]),
        ("allow.mount.nozfs", [Param("allow.mount.nozfs")]),
        ("allow.raw_sockets=1", [Param("allow.raw_sockets", "1")]),
        ("children.max=5", [Param("children.max", "5")]),
        ("exec.start=/bin/sh -c 'a=b'", [Param("exec.start", "/bin/sh -c 'a=b'")]),
        ("exec.fib=1", [Param("exec.fib", "1")]),
        ("mount.fdescfs", [Param("mount.fdescfs")]),
        ("mount.nodevfs", [Param("mount.nodevfs")]),
        ("host.hostname=", [Param("host.hostname", "")]),
        ("allow.sysvipc", [Param(ipc, "new") for ipc in ("sysvmsg", "sysvsem", "sysvshm")]),
        ("allow.nosysvipc", []),
    ],
)
def test_taken(given: str, params: list[Param]) -> None:
    assert check([given], KERNEL) == params


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ("allow.bogus", "no jail parameter allow.bogus"),
        ("allow.raw_socket", "did you mean allow.raw_sockets?"),
        ("exec.poststpo=x", "did you mean exec.poststop?"),
        ("name=x", "the engine names jails"),
        ("path=/", "the container's own file system"),
        ("nopersist", "as long as the container runs"),
        ("command=/bin/sh", "after the image"),
        ("depend=x", "--depends-on"),
        ("allow.dying", "deprecated"),
        ("exec.start", "needs a value"),
        ("ip4.addr", "needs a value"),
        ("linux=new", "no jail parameter linux"),
        ("", "no jail parameter"),
    ],
)
def test_refused(given: str, why: str) -> None:
    with pytest.raises(PlatformError, match=re.escape(why)) as caught:
        check([given], KERNEL)
    assert "\n" not in caught.value.message


def test_the_last_word_counts() -> None:
    params = check(["mount.nodevfs", "mount.devfs", "mount.procfs", "mount.procfs=false"], KERNEL)
    assert wants(params, "mount.devfs", False)
    assert not wants(params, "mount.procfs", True)
    assert wants([], "mount.devfs", True)
    assert value_of(check(["exec.fib=1", "exec.fib=2"], KERNEL), "exec.fib") == "2"
    assert value_of([], "exec.fib") is None


def test_a_description() -> None:
    params = check(
        [
            "allow.mount",
            "exec.prestart=echo one",
            "exec.prestart=echo 'two' \\ $three",
            "ip4.addr=10.0.0.1, 10.0.0.2",
            "mount.procfs",
            "mount.nofdescfs",
        ],
        KERNEL,
    )
    assert describe("jocker-1-a", [Param("path", "/jk/c"), Param("persist"), *params]) == (
        "jocker-1-a {\n"
        "\tpath = '/jk/c';\n"
        "\tpersist;\n"
        "\tallow.mount;\n"
        "\texec.prestart = 'echo one';\n"
        "\texec.prestart += 'echo \\'two\\' \\\\ $three';\n"
        "\tip4.addr = '10.0.0.1', '10.0.0.2';\n"
        "}\n"
    )


def unquoted(text: str) -> str:
    """As jail(8)'s scanner reads a string in single quotes (jaillex.l: the end, and what a backslash does)."""
    match = re.fullmatch(r"'((?:[^'\\]|\\(?:.|\n))*)'", text, re.DOTALL)
    assert match is not None, text
    letters = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v", "\n": ""}
    return re.sub(r"\\(.)", lambda found: letters.get(found[1], found[1]), match[1], flags=re.DOTALL)


@pytest.mark.parametrize(
    "text", ["", "a", "it's", "\\", "\\'", "a\\nb", 'a "b" ${c} $d', "x\ny", "\\0", "''"]
)
def test_quoting_means_itself(text: str) -> None:
    assert unquoted(quote(text)) == text
