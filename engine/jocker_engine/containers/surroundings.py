"""From a container's record to what its runtime needs: the process, the isolation, the files of its own."""

from __future__ import annotations

import os
from typing import Any

from jocker_protocol.errors import JockerError
from jocker_protocol.types import ContainerCreate, ImageConfig

from ..db.records import ContainerRecord, Networking
from ..images.evaluate import DEFAULT_PATH
from ..layout import Layout
from ..networks.names import hosts, resolv_conf
from ..networks.wishes import exposed
from ..otp import ActorDown
from ..platform.interfaces import Bind, Isolation, Process
from ..platform.rootfs import NoSuchUser
from ..platform.shims import ShimLost, ShimRefused
from ..shim.launch import Launch

CANNOT_START = (JockerError, OSError, NoSuchUser, ShimRefused, ShimLost, ActorDown)
"""What stands in a process's way without being a bug."""


def merge(image: ImageConfig, wish: ContainerCreate) -> ImageConfig:
    """The image's configuration with what the user asked for on top; Docker's rules for entrypoint and cmd."""
    entrypoint, cmd = image.entrypoint, image.cmd
    if wish.entrypoint is not None:
        entrypoint, cmd = [word for word in wish.entrypoint if word], None
    if wish.cmd is not None:
        cmd = wish.cmd
    return ImageConfig(
        env=merge_env(image.env, wish.env),
        cmd=cmd,
        entrypoint=entrypoint,
        working_dir=wish.working_dir or image.working_dir,
        user=wish.user or image.user,
        exposed_ports=exposed(image.exposed_ports, wish.expose),
        volumes=image.volumes,
        labels={**image.labels, **wish.labels},
        stop_signal=wish.stop_signal or image.stop_signal,
        shell=image.shell,
    )


def merge_env(base: list[str], more: list[str]) -> list[str]:
    """KEY=VALUE lists, the later ones winning; the first place of a key is kept."""
    merged = {item.partition("=")[0]: item for item in base}
    merged.update((item.partition("=")[0], item) for item in more)
    return list(merged.values())


def argv(config: ImageConfig) -> list[str]:
    """What is executed."""
    return [*(config.entrypoint or []), *(config.cmd or [])]


def process(
    config: ImageConfig, hostname: str, *, tty: bool = False, rows: int = 0, cols: int = 0
) -> Process:
    """The main process."""
    base = [f"PATH={DEFAULT_PATH}", f"HOSTNAME={hostname}", *(["TERM=xterm"] if tty else [])]
    return Process(
        argv=tuple(argv(config)),
        env=tuple(merge_env(base, config.env)),
        cwd=config.working_dir or "/",
        user=config.user,
        tty=tty,
        rows=rows,
        cols=cols,
    )


def isolation(record: ContainerRecord, layout: Layout, rootfs: str, network: str = "") -> Isolation:
    """A container's surroundings; its files must have been written. `network`: what attaching it has answered."""
    directory = layout.container(record.id)
    kind, _, other = record.network.partition(":")
    return Isolation(
        id=record.id,
        directory=directory,
        rootfs=rootfs,
        hostname=record.hostname,
        network=network or record.network,
        binds=tuple(
            Bind(mount.path, mount.target, mount.read_only, tuple(mount.options)) for mount in record.mounts
        ),
        files=files(layout.container(other) if kind == "container" else directory),
        init=record.init,
        jail_params=tuple(record.jail_params),
        limits=record.limits,
        security=record.security,
    )


_FILES = {"/etc/hosts": "hosts", "/etc/hostname": "hostname", "/etc/resolv.conf": "resolv.conf"}


def files(directory: str) -> dict[str, str]:
    """The files mounted over the image's: target -> host path."""
    return {target: os.path.join(directory, name) for target, name in _FILES.items()}


_PLAIN = Networking()


def write_files(
    directory: str,
    hostname: str,
    networking: Networking = _PLAIN,
    *,
    own_stack: bool = False,
    own_names: bool = True,
) -> dict[str, str]:
    """Write them. The names of other containers come when it is attached; `own_stack`: not the host's network;
    `own_names`: not the host's hosts(5).
    """
    texts = {
        "hosts": hosts(hostname, (), networking.extra_hosts, "", of_host=not own_names),
        "hostname": f"{hostname}\n",
        "resolv.conf": resolv_conf(networking, own_stack=own_stack),
    }
    for name, text in texts.items():
        with open(os.path.join(directory, name), "w", encoding="utf-8") as file:
            file.write(text)
    return files(directory)


def with_stdio(launch: Launch, **fields: Any) -> Launch:
    """A driver's launch with what it does not know: log, status, standard input."""
    return Launch.from_json({**launch.to_json(), **fields})
