"""Where things lie below the engine's root. Names only; nothing here touches the disk."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass


@dataclass(frozen=True)
class Layout:
    """Paths below one root. Ids are hex."""

    root: str

    @property
    def tag(self) -> str:
        """What tells things of this root from those of another where they have to be elsewhere."""
        return hashlib.sha256(os.path.realpath(self.root).encode()).hexdigest()[:8]

    @property
    def lock(self) -> str:
        """Held by the engine that runs on this root."""
        return os.path.join(self.root, "engine.lock")

    @property
    def commands_lock(self) -> str:
        """Held by each command of the operating system that an engine started, also after its death."""
        return os.path.join(self.root, "commands.lock")

    @property
    def database(self) -> str:
        """The SQLite file."""
        return os.path.join(self.root, "jocker.sqlite")

    @property
    def reserve(self) -> str:
        """Space kept back for a full disk."""
        return os.path.join(self.root, "reserve")

    @property
    def run(self) -> str:
        """Sockets of shims: short, since a socket's path has about 100 bytes."""
        return os.path.join(self.root, "run")

    @property
    def uploads(self) -> str:
        """What clients send (build contexts, tars) while it is needed; emptied at start."""
        return os.path.join(self.root, "uploads")

    @property
    def containers(self) -> str:
        """One directory per container."""
        return os.path.join(self.root, "containers")

    @property
    def builds(self) -> str:
        """One directory per build step that runs; emptied at start."""
        return os.path.join(self.root, "builds")

    @property
    def recipes(self) -> str:
        """One file per layer: how its tar is made again."""
        return os.path.join(self.root, "recipes")

    def recipe(self, layer: str) -> str:
        """That of one layer."""
        return os.path.join(self.recipes, layer)

    @property
    def contexts(self) -> str:
        """The contents of the last contexts of builds, of this boot; older ones are not to be trusted."""
        return os.path.join(self.root, "contexts")

    @property
    def cache_mounts(self) -> str:
        """The directories of RUN --mount=type=cache."""
        return os.path.join(self.root, "cachemounts")

    def container(self, container: str) -> str:
        """The directory of one container."""
        return os.path.join(self.containers, container)

    def container_log(self, container: str) -> str:
        """Its log, in CRI format."""
        return os.path.join(self.container(container), "log")

    def container_status(self, container: str) -> str:
        """Its exit status, written by its shim."""
        return os.path.join(self.container(container), "status.json")

    def directories(self) -> tuple[str, ...]:
        """Those that must be there before anything else."""
        return (
            self.root,
            self.run,
            self.uploads,
            self.containers,
            self.builds,
            self.contexts,
            self.cache_mounts,
            self.recipes,
        )
