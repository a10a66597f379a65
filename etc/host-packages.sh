#!/bin/sh
# What the tests and the demo want from the host: installed where that can be done, named where it cannot.
missing=""
if [ "$(uname)" = FreeBSD ]; then # all but Python's sqlite3 is in the base system
    python=.venv/bin/python
    "$python" -c 'import sqlite3' 2>/dev/null && exit 0
    missing=$("$python" -c 'import sys; print("py%d%d-sqlite3" % sys.version_info[:2])')
    [ "$(id -u)" = 0 ] && pkg install -qy "$missing" && exit 0
    echo "not installed: $missing, without which there is no engine; as root: pkg install $missing" >&2
    exit 1
fi
command -v runc >/dev/null || command -v crun >/dev/null || missing="$missing runc"
command -v busybox >/dev/null || missing="$missing busybox-static"
command -v nft >/dev/null || [ "$(uname)" != Linux ] || missing="$missing nftables"
command -v ip >/dev/null || [ "$(uname)" != Linux ] || missing="$missing iproute2"
command -v docker-init >/dev/null || command -v tini-static >/dev/null || missing="$missing tini"
if [ "$(uname)" = Linux ]; then
    command -v ps >/dev/null || missing="$missing procps"
    PATH="$PATH:/usr/sbin:/sbin" command -v mkfs.ext4 >/dev/null || missing="$missing e2fsprogs"
fi
[ -z "$missing" ] && exit 0
if [ "$(uname)" = Linux ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    # shellcheck disable=SC2086
    { apt-get install -y -qq $missing || { apt-get update -qq && apt-get install -y -qq $missing; }; } >/dev/null 2>&1 &&
        exit 0
fi
echo "not installed:$missing; without runc or busybox Jocker falls
back to the portable platform, without nftables and iproute2 it makes no networks, without tini there is no --init on Linux,
without e2fsprogs no quota of a volume, without procps no \`jocker top\`; some tests are skipped" >&2
