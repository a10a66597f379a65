"""What instructions come to: a step says what must be done, with everything in it replaced. Types only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from .dockerfile import Heredoc

SCRIPT_DIRECTORY = "/dev/pipes"
"""Where a here-document that begins with #! is seen by the RUN that is made of it, as in BuildKit."""


@dataclass(frozen=True)
class Step:
    """What all steps have: `canonical` is the instruction with all it really uses, `created_by` for people."""

    line: int
    canonical: str
    created_by: str


@dataclass(frozen=True)
class ConfigStep(Step):
    """Only the configuration changed."""


@dataclass(frozen=True)
class RunMount:
    """RUN --mount: what is there for one RUN only and never part of its layer.

    bind: `source` (absolute) of the stage, the image, else the build context; what is written to one that is not
    `read_only` is thrown away afterwards. cache: the lasting directory `id`; a new one begins as `source` of the stage
    or image, empty without, and belongs to uid, gid, mode. tmpfs: `size` bytes, 0 for no limit of ours. secret:
    the secret `id` as the file `target` and, or, as the variable `env`. ssh: the agent's socket at `target`.
    """

    type: Literal["bind", "cache", "tmpfs", "secret", "ssh"]
    target: str
    """Absolute; "" for a secret that is a variable only."""
    id: str = ""
    source: str = "/"
    source_stage: int | None = None
    source_image: str = ""
    """An image or a named build context; "" with no source_stage: the build context (bind), nothing (cache)."""
    read_only: bool = False
    sharing: Literal["shared", "private", "locked"] = "shared"
    """Of a cache, when several builds want it: at the same time, one each, or one after another."""
    required: bool = False
    """Whether a missing secret or agent is an error."""
    mode: int = 0o755
    uid: int = 0
    gid: int = 0
    size: int = 0
    env: str = ""


@dataclass(frozen=True)
class RunStep(Step):
    """Run this; here-documents are in `argv`, but one that begins with #! is `script`."""

    argv: tuple[str, ...] = ()
    env: tuple[str, ...] = ()
    cwd: str = "/"
    user: str = ""
    network: Literal["", "host", "none"] = ""
    """"": the build's own."""
    security: Literal["sandbox", "insecure"] = "sandbox"
    mounts: tuple[RunMount, ...] = ()
    script: Heredoc | None = None
    """To be seen as SCRIPT_DIRECTORY/name, mode 755."""


@dataclass(frozen=True)
class WorkdirStep(Step):
    """The directory must be there."""

    path: str = "/"


@dataclass(frozen=True)
class CopyStep(Step):
    """COPY or ADD. Sources are patterns; with `parents` a source keeps its path (what is after a /./ in it)."""

    sources: tuple[str, ...] = ()
    """Patterns in the stage, the image, else the build context."""
    destination: str = "/"
    source_stage: int | None = None
    source_image: str = ""
    """An image or a named build context."""
    chown: str = ""
    chmod: str = ""
    """Octal, or symbolic as chmod(1)."""
    unpack: bool = False
    """Archives among the sources are extracted."""
    unpack_urls: bool = False
    """So are those that come from a URL."""
    link: bool = False
    """Links in the destination are not followed but replaced: the copy does not depend on what is there."""
    parents: bool = False
    exclude: tuple[str, ...] = ()
    """Patterns as in an ignore file, relative to each source."""
    urls: tuple[str, ...] = ()
    repositories: tuple[str, ...] = ()
    """Of git, as REMOTE[#REF[:SUBDIRECTORY]]."""
    checksum: str = ""
    """sha256:HEX of the only URL, or the beginning of the only repository's commit."""
    keep_git_dir: bool = False
    heredocs: tuple[Heredoc, ...] = ()
    """Files of these names with this content, beside the sources."""
