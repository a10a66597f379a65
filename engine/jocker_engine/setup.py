"""`jocker-engine setup [--apply]`: what this machine lacks for containers, and the commands that mend it.

Exit status 0 when nothing is missing, 1 when something is.
"""

from __future__ import annotations

import trio

from .config import FREEBSD, Config
from .platform.checks import Check, Outcome, examine
from .platform.commands import Commands


def run(config: Config, *, apply: bool) -> int:
    """Say what is there and what is missing; with `apply` mend what can be mended."""
    outcomes = trio.run(_examine, config, apply)
    missing = [outcome for outcome in outcomes if outcome.problem]
    if missing and not apply:
        print(f"{len(missing)} missing; `jocker-engine setup --apply` does what it can")
    return 1 if missing else 0


async def _examine(config: Config, apply: bool) -> list[Outcome]:
    def tell(line: str) -> None:
        print(line, flush=True)

    return await examine(table(config), Commands(), apply=apply, tell=tell)


def table(config: Config) -> list[Check]:
    """The checks for this machine."""
    if FREEBSD:
        from .platform.freebsd import setup as freebsd

        return freebsd.checks(
            zroot=config.zroot,
            volumes=config.volume_root,
            base=config.base_layer_dataset,
            socket=config.api_socket,
        )
    from .platform.linux import setup as linux

    return linux.checks(root=config.root, socket=config.api_socket)
