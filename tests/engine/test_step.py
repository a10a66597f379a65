"""A process that runs for a build step (zygote.Shims.run): cancelled, it is over before its caller tidies up."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile

import trio

from conftest import need
from jocker_engine.otp import ChildSpec, Supervisor, System
from jocker_engine.shim.launch import Launch
from jocker_engine.zygote import Shims, ZygoteActor


async def test_a_cancelled_process_has_ended_with_its_shim() -> None:
    need(sys.platform == "linux", "a chroot launch, which needs user namespaces where there is no root")
    directory = tempfile.mkdtemp(prefix="jk-", dir="/tmp")
    status = os.path.join(directory, "status")
    seen = trio.Event()

    async def output(kind: int, data: bytes) -> None:
        seen.set()

    launch = Launch(
        argv=["sh", "-c", "echo begun; exec sleep 1000"],
        enter="chroot",
        root="/",
        env=[f"PATH={os.environ['PATH']}"],
        status=status,
        uid=os.geteuid(),
        gid=os.getegid(),
        user_namespace=os.geteuid() != 0,
    )
    system = System()
    spec = Supervisor("root", [ChildSpec("zygote", lambda: ZygoteActor(directory))])
    async with trio.open_nursery() as nursery:
        await nursery.start(lambda task_status: system.run(spec, task_status=task_status))
        for key in ("000000000001", "000000000002", "000000000003"):
            with trio.CancelScope() as scope:
                async with trio.open_nursery() as steps:
                    steps.start_soon(Shims(system.ref("zygote")).run, key, launch, output)
                    await seen.wait()
                    scope.cancel()
            assert os.path.exists(status), "the shim has still to write it, into what is being removed"
            os.unlink(status)
            seen = trio.Event()
        system.shutdown()
    shutil.rmtree(directory)
