"""Worker operation: a minimal root file system made of programs of this host. Blocking; standard library
only.

The programs keep their paths, and the links on the way to them (/bin -> usr/bin, python3 -> python3.11) are
made as they are here, so that what a program has compiled in stays true. All belongs to root, directories
have mode 755, and times are the host's files' own or a constant: the same host gives the same tree.
"""

from __future__ import annotations

import glob
import json
import os
import re
import shutil
import stat
import subprocess
import sys
from dataclasses import dataclass, field, replace

from .copytree import TreeCopier, copy_xattrs
from .elf import CACHE_FILES, Libraries, read_elf

SEARCH_PATH = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")
"""PATH of a container that says nothing else: a program elsewhere gets a link in /usr/local/bin."""

EPOCH = 315532800
"""Time of what has no time of its own: 1980-01-01, the earliest that every archive format can say."""

_DIRECTORIES = {
    "/dev": 0o755,
    "/etc": 0o755,
    "/proc": 0o555,
    "/root": 0o700,
    "/run": 0o755,
    "/sys": 0o555,
    "/tmp": 0o1777,
    "/usr/local/bin": 0o755,
    "/var/tmp": 0o1777,
}
_ADMINS = "wheel" if sys.platform.startswith("freebsd") else "root"
_TEXTS = {
    "/etc/group": f"{_ADMINS}:x:0:\ndaemon:x:1:\ntty:x:5:\nnobody:x:65534:\n",
    "/etc/hosts": "",
    "/etc/nsswitch.conf": "passwd: files\ngroup: files\nshadow: files\nhosts: files dns\n",
    "/etc/passwd": "root:x:0:0:root:/root:/bin/sh\n"
    "daemon:x:1:1:daemon:/:/usr/sbin/nologin\n"
    "nobody:x:65534:65534:nobody:/:/usr/sbin/nologin\n",
    "/etc/resolv.conf": "",
}
_TERMINALS = ("ansi", "dumb", "linux", "screen", "screen-256color", "tmux", "tmux-256color", "vt100", "vt220")
_TERMINFO = tuple(
    f"{top}/{name[0]}/{name}"
    for top in ("/etc/terminfo", "/lib/terminfo", "/usr/lib/terminfo", "/usr/share/terminfo")
    for name in (*_TERMINALS, "xterm", "xterm-256color", "xterm-color")
)
_COMPANIONS: tuple[tuple[str, tuple[str, ...]], ...] = (
    # What files of this name open while they run, and no header tells: paths, or names of libraries.
    (r"lib(n?curses|tinfo)w?\.so.*", (*_TERMINFO, "/usr/share/misc/termcap*")),
    (r"libc\.so\.6", ("libgcc_s.so.1", "libnss_files.so.2", "libnss_dns.so.2")),
    (r"libthr\.so\.3", ("libgcc_s.so.1",)),
    (r"vim\..*|vim", ("/usr/share/vim/vim*/defaults.vim",)),
)
_PYTHON = re.compile(r"(python|pypy)[0-9.]*")
_PYTHON_FACTS = (
    "import json, sys, sysconfig as s; print(json.dumps({"
    "'program': getattr(sys, '_base_executable', '') or sys.executable, 'tag': sys.implementation.cache_tag,"
    "'libraries': [s.get_path('stdlib'), s.get_path('platstdlib'), s.get_config_var('DESTSHARED') or '']}))"
)
_PYTHON_UNUSED = re.compile(
    r"site-packages|dist-packages|tests?|idlelib|turtledemo|tkinter|_tkinter\..*|config-.*"
)


class HostRootError(Exception):
    """The root cannot be made of these programs; one line."""


def host_root(programs: list[str], target: str) -> dict[str, int]:
    """Make the root of these programs (names looked up in PATH, or absolute paths) in the empty directory
    `target`.

    Returns {"files", "links", "bytes"}. Raises HostRootError (a program or a library is missing), OSError.
    """
    plan = Plan()
    for program in programs:
        plan.program(program)
    for name in CACHE_FILES:
        plan.file(name)
    return write(plan, target)


@dataclass
class Plan:
    """What goes into the root; paths are the same there and here."""

    files: set[str] = field(default_factory=set)
    links: dict[str, str] = field(default_factory=dict)
    directories: dict[str, int] = field(default_factory=lambda: dict(_DIRECTORIES))
    _libraries: Libraries = field(default_factory=Libraries)
    _done: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        # Links of the host's root, such as /lib64 -> usr/lib64, whether a program here needs them or not.
        for name in ("/bin", "/sbin", "/lib", "/lib64"):
            self._resolve(name)

    def _resolve(self, path: str) -> str:
        """Where the path leads on this host; the links on the way become part of the root."""
        todo = path.split("/")[::-1]
        at = ""
        hops = 0
        while todo:
            name = todo.pop()
            if name in ("", "."):
                continue
            if name == "..":
                at = os.path.dirname(at).rstrip("/")
                continue
            step = f"{at}/{name}"
            if step in _DIRECTORIES or not os.path.islink(step):
                at = step
                continue
            if (hops := hops + 1) > 40:
                raise HostRootError(f"{path}: too many symbolic links")
            link = os.readlink(step)
            self.links[step] = link
            if link.startswith("/"):
                at = ""
            todo += link.split("/")[::-1]
        return at or "/"

    def file(self, path: str) -> str | None:
        """Include a file, if it is there, without what it needs; returns its real path."""
        if not os.path.exists(path):
            return None
        real = self._resolve(path)
        if os.path.isfile(real):
            self.files.add(real)
            self._companions(os.path.basename(path), real)
            self._companions(os.path.basename(real), real)
        return real

    def _companions(self, name: str, user: str) -> None:
        for pattern, companions in _COMPANIONS:
            if not re.fullmatch(pattern, name) or pattern in self._done:
                continue
            self._done.add(pattern)
            for companion in companions:
                if companion.startswith("/"):
                    for path in sorted(glob.glob(companion)):
                        self.file(path)
                elif elf := read_elf(user):
                    for path in self._libraries.find(companion, elf):
                        self.binary(path, required=False)

    def program(self, program: str) -> None:
        """Include a program by name or path, with all that it needs, so that it is found in PATH inside."""
        path = find_program(program)
        name = os.path.basename(path)
        start = path
        if _PYTHON.fullmatch(name):
            start = self._python(program, path)
        self.binary(start, required=True)
        if os.path.dirname(start) not in SEARCH_PATH and not any(
            f"{directory}/{name}" in self.links or f"{directory}/{name}" in self.files
            for directory in SEARCH_PATH
        ):
            self.links[f"/usr/local/bin/{name}"] = start

    def binary(self, path: str, *, required: bool, inherited: tuple[str, ...] = ()) -> None:
        """Include a program or library, its loader and its libraries, or a script and its interpreter."""
        real = self.file(path)
        if real is None or real in self._done:
            return
        self._done.add(real)
        elf = read_elf(real)
        if elf is None:
            self._script(real)
            return
        # $ORIGIN is where the loader opened the file, perhaps through a link.
        elf = replace(elf, path=path)
        if elf.interpreter:
            self.binary(elf.interpreter, required=required)
        inherited = (*elf.rpath, *inherited) if not elf.runpath else inherited
        for soname in elf.needed:
            found = self._libraries.find(soname, elf, inherited)
            if not found and required:
                raise HostRootError(f"{path} needs the library {soname}, which this host does not have")
            for library in found:
                self.binary(library, required=required, inherited=inherited)
        for soname in elf.filtees:
            for library in self._libraries.find(soname, elf, inherited):
                self.binary(library, required=required, inherited=inherited)

    def _script(self, path: str) -> None:
        with open(path, "rb") as file:
            first = file.readline(4096)
        if not first.startswith(b"#!"):
            return
        words = os.fsdecode(first[2:]).split()
        if not words:
            return
        self.binary(words[0], required=True)
        if os.path.basename(words[0]) == "env":
            names = [word for word in words[1:] if not word.startswith("-") and "=" not in word]
            if names:
                self.program(names[0])
        elif _PYTHON.fullmatch(os.path.basename(words[0])):
            self.program(words[0])

    def _python(self, program: str, path: str) -> str:
        """Include the standard library of a Python; returns the interpreter behind shims and virtual
        environments.
        """
        argv = [path, "-I", "-c", _PYTHON_FACTS]
        try:
            done = subprocess.run(
                argv, capture_output=True, text=True, cwd="/", stdin=subprocess.DEVNULL, timeout=60
            )
            facts = json.loads(done.stdout) if done.returncode == 0 else None
        except (OSError, ValueError, subprocess.TimeoutExpired) as error:
            raise HostRootError(f"program {program!r}: {path} does not run: {error}") from None
        if facts is None:
            reason = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
            raise HostRootError(f"program {program!r}: {path} does not run: {reason}")
        for directory in sorted({item for item in facts["libraries"] if item}):
            self._python_library(self._resolve(directory), facts["tag"])
        interpreter: str = facts["program"]
        return interpreter

    def _python_library(self, top: str, tag: str) -> None:
        if top in self._done or not os.path.isdir(top):
            return
        self._done.add(top)
        self.directories[os.path.join(top, "site-packages")] = 0o755
        for directory, names, files in os.walk(top):
            names[:] = [name for name in names if not _PYTHON_UNUSED.fullmatch(name)]
            self.directories[directory] = 0o755
            for name in files:
                path = os.path.join(directory, name)
                if _PYTHON_UNUSED.fullmatch(name) or (
                    name.endswith(".pyc") and not name.endswith(f".{tag}.pyc")
                ):
                    continue
                if ".so" in name:
                    self.binary(path, required=False)
                else:
                    self.file(path)


def find_program(program: str) -> str:
    """The path of a program: absolute as it is, a name looked up in PATH and the system's directories."""
    if "/" in program and not program.startswith("/"):
        raise HostRootError(f"program {program!r}: give a name or an absolute path")
    path = os.pathsep.join([os.environ.get("PATH", ""), *SEARCH_PATH]).strip(os.pathsep)
    if found := shutil.which(program, path=path):
        return found
    where = "is not an executable file" if "/" in program else "is not in PATH"
    raise HostRootError(f"program {program!r} {where} on this host")


def write(plan: Plan, target: str) -> dict[str, int]:
    """Make the tree. Sorted, so that a parent comes before what is in it."""
    directories = {"/": 0o755}
    for path in [*plan.files, *plan.links, *plan.directories, *_TEXTS]:
        while (path := os.path.dirname(path)) != "/":
            directories.setdefault(path, 0o755)
    directories |= plan.directories
    inside = [*plan.files, *plan.links]
    if any(path.startswith("/root/") for path in inside):
        directories["/root"] = 0o755  # a program lives there: others must get at it
    for path in sorted(directories):
        os.makedirs(target + path, exist_ok=True)
    copier = TreeCopier()
    total = 0
    for path in sorted(plan.files):
        status = os.stat(path)
        total += status.st_size
        copier.content(path, target + path, status)
        _finish(target + path, stat.S_IMODE(status.st_mode), status.st_mtime_ns, source=path)
    for path, link in sorted(plan.links.items()):
        os.symlink(link, target + path)
        _finish(target + path, None, EPOCH * 10**9)
    for path, text in sorted(_TEXTS.items()):
        if path not in plan.files:
            with open(target + path, "w", encoding="utf-8") as file:
                file.write(text)
            _finish(target + path, 0o644, EPOCH * 10**9)
    for path, mode in sorted(directories.items(), reverse=True):
        _finish(target + path, mode, EPOCH * 10**9)
    return {"files": len(plan.files), "links": len(plan.links), "bytes": total}


def _finish(path: str, mode: int | None, mtime_ns: int, source: str = "") -> None:
    if os.geteuid() == 0:
        os.chown(path, 0, 0, follow_symlinks=False)
    if source:
        copy_xattrs(source, path, os.stat(source))
    if mode is not None:
        os.chmod(path, mode)
    os.utime(path, ns=(mtime_ns, mtime_ns), follow_symlinks=False)
