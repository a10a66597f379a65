"""Starting one process as a Launch record says, and what the exit codes of failed starts are.

Knows the record, descriptors for its standard streams and the operating system; nothing of clients or logs.
The exit codes are Docker's: 127 the program is not there, 126 it cannot be executed, 125 anything else.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import re
import resource
import signal
import termios
from collections.abc import Callable
from typing import NoReturn

from . import namespaces
from .launch import Launch

IGNORED = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGPIPE)
"""What a shim ignores, and a container's process must not."""

_DEFAULTED = signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}
"""All: what starts an engine in the background may have made it ignore INT, QUIT or HUP, and that is inherited."""
_DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_REPORT_SIZE = 1 << 16

_NOISE = re.compile(
    r"^(?:(?:runc|crun)(?: \w+ failed)?: |(?:exec|run|create|start) failed: |OCI runtime \w+ failed: |"
    r"(?:unable to start container process|error during container init|container_linux\.go:\d+: \S+ container process caused): )+"
)
_ABOUT_PROGRAM = re.compile(r"\bexec\b|executable")
_NOT_THERE = re.compile(r"not found|no such file or directory", re.IGNORECASE)
_CANNOT = re.compile(
    r"permission denied|not executable|is a directory|not a directory|exec format error", re.IGNORECASE
)


class StartError(Exception):
    """The process could not be started."""

    def __init__(self, exit_code: int, error: str) -> None:
        super().__init__(error)
        self.exit_code = exit_code
        self.error = error


def enter(launch: Launch, stdio: tuple[int, ...]) -> int:
    """Start the process of a `chroot` or `jail` launch; returns its id. Raises StartError."""

    def become() -> NoReturn:
        if launch.tty:
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)
        _limit(launch)
        if launch.enter == "jail":
            namespaces.set_routes(launch.fib)
            namespaces.attach_jail(launch.jid)
            if launch.login:
                namespaces.set_login(launch.login)
        else:
            _change_root(launch)
        try:
            os.chdir(launch.cwd)
        except OSError as error:
            raise StartError(126, f'chdir to "{launch.cwd}" failed: {_why(error)}') from None
        _change_ids(launch)
        namespaces.die_with_parent(signal.SIGKILL)
        if launch.no_new_privileges:
            namespaces.no_new_privileges()
        _execute(launch.argv, dict(item.partition("=")[::2] for item in launch.env))

    return _fork(become, stdio)


def command(launch: Launch, stdio: tuple[int, ...]) -> int:
    """Start the runtime of a `command` launch; returns the command's id. Raises StartError.

    Its environment is the shim's with what the record adds.
    """

    def become() -> NoReturn:
        os.chdir(launch.cwd)
        _execute(launch.argv, {**os.environ, **dict(item.partition("=")[::2] for item in launch.env)})

    try:
        return _fork(become, stdio)
    except StartError as error:
        raise StartError(125, error.error) from None


def command_failed(launch: Launch, exit_code: int, printed: bytes) -> StartError:
    """Why the runtime failed: the last error of its log, else the last line that it printed."""
    text = _last_error(launch.error_log)
    if not text:
        lines = printed.decode(errors="replace").split("\n")
        text = next((line for line in reversed(lines) if line.strip()), "")
    text = " ".join(_NOISE.sub("", text.strip()).split())
    if not text:
        return StartError(125, f"{os.path.basename(launch.argv[0])} ended with exit code {exit_code}")
    return StartError(_exit_code(text), text)


def exit_code(status: int) -> int:
    """Of a wait status: as the shell has it, 128 and the signal's number for a process that was killed."""
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


def _exit_code(text: str) -> int:
    if "chdir to" in text:
        return 126
    if _ABOUT_PROGRAM.search(text):
        if _CANNOT.search(text):
            return 126
        if _NOT_THERE.search(text):
            return 127
    return 125


def _last_error(path: str) -> str:
    """The last message of level error or fatal in a log of JSON lines ({"level": ..., "msg": ...})."""
    try:
        with open(path, "rb") as file:
            lines = file.read().splitlines()
    except OSError:
        return ""
    for line in reversed(lines):
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if isinstance(entry, dict) and entry.get("level") in ("error", "fatal"):
            return str(entry.get("msg", ""))
    return ""


def _fork(become: Callable[[], NoReturn], stdio: tuple[int, ...]) -> int:
    """Run `become` in a child; what it raises comes back through a pipe that a successful exec closes."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(read)
            os.setsid()
            os.umask(0o022)
            signal.set_wakeup_fd(-1)
            for signum in _DEFAULTED:
                signal.signal(signum, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_SETMASK, ())
            for number, fd in enumerate(stdio):
                os.dup2(fd, number)
            become()
        except StartError as error:
            report = [error.exit_code, error.error]
        except OSError as error:
            report = [125, _why(error) if error.filename is None else f"{error.filename}: {_why(error)}"]
        except BaseException as error:
            report = [125, repr(error)]  # a bug of ours must not end as the process's own exit
        os.write(write, json.dumps(report).encode()[:_REPORT_SIZE])
        os._exit(125)
    os.close(write)
    with open(read, "rb") as file:
        answer = file.read()
    if not answer:
        return pid
    os.waitpid(pid, 0)
    raise StartError(*json.loads(answer))


def _limit(launch: Launch) -> None:
    """What the kernel holds against each process, set while it is still root and sees the host's /proc."""
    if launch.oom_score_adj:
        with open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:
            file.write(str(launch.oom_score_adj))
    for name, soft, hard in launch.rlimits:
        number = getattr(resource, f"RLIMIT_{name.upper()}", None)
        if number is None:
            raise StartError(125, f"--ulimit {name}: this system has no such limit")
        try:
            none = resource.RLIM_INFINITY
            resource.setrlimit(number, (none if soft < 0 else soft, none if hard < 0 else hard))
        except (ValueError, OSError) as error:
            raise StartError(125, f"--ulimit {name}={soft}:{hard}: {error}") from None


def _change_root(launch: Launch) -> None:
    if launch.join_pid:
        try:
            namespaces.join(launch.join_pid)
        except FileNotFoundError:
            raise StartError(125, "the container has ended") from None
    elif launch.user_namespace:
        namespaces.own_mounts(launch.uid, launch.gid)
    elif launch.binds:
        namespaces.own_mounts()
    for source, target, read_only, *data in launch.binds:
        namespaces.bind(source, launch.root + target, read_only, *data)
    os.chroot(launch.root)


def _change_ids(launch: Launch) -> None:
    if not launch.user_namespace:  # there are no other ids in it, and setgroups is forbidden
        # FreeBSD before 15 takes the first of the list for the effective group (setgroups(2)), and so loses it.
        os.setgroups(launch.groups if namespaces.LINUX else [launch.gid, *launch.groups])
        os.setgid(launch.gid)
        os.setuid(launch.uid)


def _execute(argv: list[str], env: dict[str, str]) -> NoReturn:
    """execve(2), the program looked up in PATH of `env` as execvp(3) does. Raises StartError."""
    program = argv[0] if argv else ""
    try:
        if "/" in program:
            paths = [program]
        else:
            found = env.get("PATH", _DEFAULT_PATH).split(":") if program else []
            paths = [os.path.join(directory or ".", program) for directory in found]
        refused: OSError | None = None
        for path in paths:
            try:
                os.execve(path, argv, env)
            except (FileNotFoundError, NotADirectoryError) as error:
                if os.path.lexists(path):
                    refused = refused or error  # its interpreter is missing
            except PermissionError as error:
                refused = IsADirectoryError(errno.EISDIR, "Is a directory") if os.path.isdir(path) else error
    except (OSError, ValueError) as error:
        why = _why(error) if isinstance(error, OSError) else str(error)
        raise StartError(126, f'exec: "{program}": {why}') from None
    if refused is not None and not isinstance(refused, FileNotFoundError):
        raise StartError(126, f'exec: "{program}": {_why(refused)}')
    missing = (
        "no such file or directory" if refused or "/" in program else "executable file not found in $PATH"
    )
    raise StartError(127, f'exec: "{program}": {missing}')


def _why(error: OSError) -> str:
    text = error.strerror or str(error)
    return text[:1].lower() + text[1:]
