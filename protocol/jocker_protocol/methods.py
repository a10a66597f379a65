"""The catalogue: every method, its parameters, its result, what its stream carries, what it does.

The single source for dispatch, both clients, `jocker rpc`, docs/rpc.md and `rpc.discover`.
"""

from __future__ import annotations

from typing import NamedTuple

from . import types as t


class Method(NamedTuple):
    """One row. `stream` describes the frames where the method answers with a ticket, else ""."""

    name: str
    params: type[t.Params]
    result: type[t.Result]
    doc: str
    stream: str = ""
    changes: bool = False
    """Whether it changes anything: such calls are logged with the peer's credentials."""


_ATTACH = "up: stdin, eof, resize, signal; down: stdout, stderr; ends with result {exit_code} or error"

CATALOGUE: tuple[Method, ...] = (
    Method("engine.ping", t.Empty, t.Pong, "Whether the engine answers."),
    Method("engine.version", t.Empty, t.Version, "Versions of the engine, its API and its system."),
    Method("engine.info", t.Empty, t.Info, "What the engine runs on and how much it holds."),
    Method("system.tree", t.Empty, t.TreeNode, "The live supervision tree."),
    Method(
        "system.events",
        t.Events,
        t.Ticket,
        "What happened and happens, from the journal.",
        stream="down: progress (Event); ends with result {} when `until` has passed",
    ),
    Method("system.check", t.Check, t.Checked, "Compare database and platform.", changes=True),
    Method("system.backup", t.Backup, t.BackedUp, "Copy the database while all goes on.", changes=True),
    Method(
        "system.shutdown",
        t.Shutdown,
        t.ShutDown,
        "Stop all containers, in reverse order of dependency, and start none until the engine is started anew.",
        changes=True,
    ),
    Method(
        "system.df", t.DiskUsage, t.DiskUsed, "What images, containers, volumes and the build cache take."
    ),
    Method("rpc.discover", t.Empty, t.Schema, "This catalogue as an OpenRPC document."),
    Method("stream.open", t.StreamOpen, t.StreamReady, "Turn this connection into the stream of a ticket."),
    Method(
        "container.create",
        t.ContainerCreate,
        t.Created,
        "Make a container from an image, not started.",
        changes=True,
    ),
    Method(
        "container.start",
        t.ContainerStart,
        t.Done,
        "Start a container; no error if it runs already.",
        changes=True,
    ),
    Method(
        "container.stop",
        t.ContainerStop,
        t.Done,
        "Send the stop signal, after the timeout KILL; returns when it has stopped.",
        changes=True,
    ),
    Method("container.kill", t.ContainerKill, t.Done, "Send a signal to the main process.", changes=True),
    Method("container.restart", t.ContainerStop, t.Done, "Stop, if running, and start.", changes=True),
    Method("container.wait", t.ContainerWait, t.ExitStatus, "Wait until it does not run, or is removed."),
    Method("container.remove", t.ContainerRemove, t.Done, "Remove a container.", changes=True),
    Method(
        "container.update", t.ContainerUpdate, t.Done, "Change limits, also of a running one.", changes=True
    ),
    Method("container.stat_path", t.ContainerStatPath, t.PathStat, "What is at a path in a container."),
    Method(
        "container.copy_from",
        t.ContainerCopyFrom,
        t.Ticket,
        "A path of a container, as a tar.",
        stream="down: stdout (the tar); ends with result Copied or error",
    ),
    Method(
        "container.copy_to",
        t.ContainerCopyTo,
        t.Ticket,
        "A tar into a directory of a container.",
        stream="up: stdin (the tar, also compressed), eof; ends with result Copied or error",
        changes=True,
    ),
    Method("container.pause", t.ContainerPause, t.Done, "Hold all its processes.", changes=True),
    Method("container.unpause", t.ContainerUnpause, t.Done, "Let them go on.", changes=True),
    Method("container.top", t.ContainerTop, t.Top, "Its processes, as ps shows them."),
    Method(
        "container.stats",
        t.ContainerStats,
        t.Ticket,
        "What containers take of the machine.",
        stream="down: progress (Figures), one a second; without `stream` one, and result {}",
    ),
    Method("container.rename", t.ContainerRename, t.Done, "Give a container another name.", changes=True),
    Method(
        "container.prune", t.ContainerPrune, t.ContainersPruned, "Remove all that do not run.", changes=True
    ),
    Method("container.list", t.ContainerList, t.Containers, "Containers, the running ones unless `all`."),
    Method("container.inspect", t.ContainerRef, t.ContainerDetail, "All there is to know of a container."),
    Method(
        "container.attach",
        t.ContainerAttach,
        t.Ticket,
        "A stream joined to the main process.",
        stream=_ATTACH,
        changes=True,
    ),
    Method(
        "container.exec",
        t.ContainerExec,
        t.Ticket,
        "One more process in a running container.",
        stream=_ATTACH,
        changes=True,
    ),
    Method(
        "container.logs",
        t.ContainerLogs,
        t.Ticket,
        "What the main process printed.",
        stream="down: log (CRI lines: time, stream, F or P, text); ends with result {}",
    ),
    Method(
        "container.export",
        t.ContainerExport,
        t.Ticket,
        "A container's file system as a tar.",
        stream="down: stdout (a tar); ends with result {bytes} or error",
    ),
    Method(
        "container.commit",
        t.ContainerCommit,
        t.Created,
        "Make an image of what a container has changed.",
        changes=True,
    ),
    Method("container.diff", t.ContainerDiff, t.Changed, "What a container has changed in its file system."),
    Method(
        "image.build",
        t.ImageBuild,
        t.Ticket,
        "Build an image from a Dockerfile.",
        stream="up: stdin, eof, agent; down: want, to_agent, progress (BuildProgress); ends with result BuildResult or error. "
        "Without `contexts` it is enough to send a tar as stdin, and eof",
        changes=True,
    ),
    Method("builder.usage", t.BuilderUsage, t.CacheItems, "What the build cache holds."),
    Method("builder.prune", t.BuilderPrune, t.BuilderPruned, "Empty the build cache.", changes=True),
    Method(
        "image.check", t.ImageCheck, t.Findings, "Look for mistakes in a Dockerfile, without building it."
    ),
    Method(
        "image.create",
        t.ImageCreate,
        t.Ticket,
        "Make a base image.",
        stream="up: stdin (a tar, when source is tar), eof; down: progress (CreateProgress); ends with result {id} or error",
        changes=True,
    ),
    Method(
        "image.save",
        t.ImageSave,
        t.Ticket,
        "Images as an archive.",
        stream="down: stdout (a tar); ends with result {bytes} or error",
    ),
    Method(
        "image.load",
        t.Empty,
        t.Ticket,
        "Take the images of an archive: an OCI layout or what `docker save` writes.",
        stream="up: stdin (a tar, plain or compressed), eof; ends with result Loaded or error",
        changes=True,
    ),
    Method(
        "image.import",
        t.ImageImport,
        t.Ticket,
        "Make an image of a root file system.",
        stream="up: stdin (a tar, plain or compressed), eof; ends with result {id} or error",
        changes=True,
    ),
    Method("image.history", t.ImageHistory, t.History, "The steps in an image's making, the newest first."),
    Method(
        "image.prune",
        t.ImagePrune,
        t.Pruned,
        "Remove images that have no name and no container, with `all` those with names too.",
        changes=True,
    ),
    Method("image.list", t.ImageList, t.Images, "Images."),
    Method("image.inspect", t.ImageRef, t.ImageDetail, "All there is to know of an image."),
    Method("image.tag", t.ImageTag, t.Done, "Give an image one more name.", changes=True),
    Method(
        "image.remove",
        t.ImageRemove,
        t.ImageRemoved,
        "Remove a tag; with the last one, or by id, the image and the layers only it used.",
        changes=True,
    ),
    Method(
        "volume.create",
        t.VolumeCreate,
        t.Volume,
        "Make a volume; the same name again gives it back.",
        changes=True,
    ),
    Method("volume.list", t.VolumeList, t.Volumes, "Volumes."),
    Method("volume.inspect", t.VolumeRef, t.Volume, "All there is to know of a volume."),
    Method("volume.remove", t.VolumeRemove, t.Done, "Remove a volume that no container uses.", changes=True),
    Method("network.create", t.NetworkCreate, t.Network, "Make a network.", changes=True),
    Method("network.list", t.NetworkList, t.Networks, "Networks."),
    Method("network.inspect", t.NetworkRef, t.Network, "All there is to know of a network."),
    Method(
        "network.remove", t.NetworkRemove, t.Done, "Remove a network that no container is on.", changes=True
    ),
    Method(
        "network.prune",
        t.NetworkPrune,
        t.NetworksPruned,
        "Remove networks that no container is on.",
        changes=True,
    ),
    Method("network.connect", t.NetworkConnect, t.Done, "Put a container on one more network.", changes=True),
    Method(
        "network.disconnect", t.NetworkDisconnect, t.Done, "Take a container off a network.", changes=True
    ),
    Method(
        "volume.prune", t.VolumePrune, t.VolumesPruned, "Remove volumes that no container uses.", changes=True
    ),
    Method("volume.snapshot", t.VolumeSnapshot, t.Snapshot, "Keep what a volume holds now.", changes=True),
    Method("volume.restore", t.VolumeRestore, t.Done, "Go back to a snapshot.", changes=True),
    Method("volume.snapshot_remove", t.VolumeSnapshotRemove, t.Done, "Forget a snapshot.", changes=True),
    Method(
        "volume.export",
        t.VolumeExport,
        t.Ticket,
        "What a volume holds, as a tar.",
        stream="down: stdout (the tar); ends with result {} or error",
    ),
    Method(
        "volume.import",
        t.VolumeImport,
        t.Ticket,
        "Fill a volume from a tar, all or nothing.",
        stream="up: stdin (the tar, also compressed), eof; ends with result Volume or error",
        changes=True,
    ),
)

METHODS: dict[str, Method] = {method.name: method for method in CATALOGUE}

API_VERSION = "1.0"
