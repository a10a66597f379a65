"""kill -9 of the engine at random, again and again, under a mixed load: what was acknowledged is there."""

from __future__ import annotations

import random
import threading
import time
from typing import Any

from harness import Bystander, FaultyEngine, Tally

from jocker_client.connection import Connection, Unreachable
from jocker_protocol import wire
from jocker_protocol.errors import JockerError, NotFound

_CLIENTS = 4
_PATIENCE = 30.0
"""Seconds in which a killed engine is there again."""


def run(engine: FaultyEngine, tally: Tally, kills: int, seed: int) -> None:
    """`kills` times. The clients keep book of what they were promised."""
    kind = f"{engine.platform}: kill -9 under load"
    bystander = Bystander(engine)
    clients = [Client(engine, number, random.Random(f"{seed} {number}")) for number in range(_CLIENTS)]
    for client in clients:
        client.start()
    dice = random.Random(seed)
    for _ in range(kills):
        time.sleep(dice.uniform(0.02, 0.8))
        tally.fault(kind)
        engine.kill()
        engine.start()
        for client in clients:
            if not client.is_alive():
                raise RuntimeError("a client of the harness itself has crashed")
            while client.complaints:
                tally.loss(kind, client.complaints.pop())
    for client in clients:
        client.stop()
        for complaint in client.complaints:
            tally.loss(kind, complaint)
    if complaint := bystander.complaint():
        tally.loss(kind, complaint)
    if found := engine.differences():
        tally.loss(kind, f"differences {found}")
    print(
        f"{kind}: {sum(client.acknowledged for client in clients)} operations were acknowledged", flush=True
    )
    for client in clients:
        client.tidy()
    engine.jocker("rm", "-f", "bystander")
    if volumes := engine.rpc("volume.list")["volumes"]:
        tally.loss(kind, f"volumes are left: {volumes}")


class Client(threading.Thread):
    """Changes containers and volumes of its own, at random. `None` in its books: it was cut off, either may be."""

    def __init__(self, engine: FaultyEngine, number: int, dice: random.Random) -> None:
        super().__init__(daemon=True)
        self.complaints: list[str] = []
        self.acknowledged = 0
        self._engine = engine
        self._dice = dice
        self._ended = threading.Event()
        self._containers: dict[str, str | None] = {f"c{number}-{each}": "" for each in range(3)}
        """Name -> created, running, exited, "" for none."""
        self._volumes: dict[str, bool | None] = {f"v{number}-{each}": False for each in range(2)}
        self._images: dict[str, bool | None] = {f"i{number}": False}

    def run(self) -> None:
        while not self._ended.is_set():
            try:
                with Connection(f"unix://{self._engine.socket}") as connection:
                    self._look(connection)
                    while not self._ended.is_set():
                        self._dice.choice((self._container, self._container, self._volume, self._image))(
                            connection
                        )
            except Unreachable:
                time.sleep(0.05)

    def stop(self) -> None:
        """After the operation at hand."""
        self._ended.set()
        self.join()
        with Connection(f"unix://{self._engine.socket}") as connection:
            self._look(connection)

    def tidy(self) -> None:
        """Remove all of its own."""
        with Connection(f"unix://{self._engine.socket}") as connection:
            for name, status in self._containers.items():
                if status != "":
                    connection.call("container.remove", container=name, force=True, volumes=True)
            for name, there in self._volumes.items():
                if there:
                    connection.call("volume.remove", volume=name)
            for name, there in self._images.items():
                if there:
                    connection.call("image.remove", image=name)

    def _look(self, connection: Connection) -> None:
        """What is really there, against the books; when all that was half done is finished."""
        deadline = time.monotonic() + _PATIENCE
        before = None  # seen twice: one that was killed by an `rm -f` that was cut off runs for a moment more
        while True:
            listed = connection.call("container.list", all=True)["containers"]
            found = {each["name"]: each["status"] for each in listed if each["name"] in self._containers}
            moving = ("creating", "starting", "stopping", "removing")
            known = None not in self._containers.values() or found == before
            if known and not any(status in moving for status in found.values()):
                break
            before = found
            if time.monotonic() > deadline:
                self.complaints.append(f"still on their way: {found}")
                break
            time.sleep(0.2)
        for name, expected in self._containers.items():
            status = found.get(name, "")
            if expected is not None and status != expected:
                why = connection.call("container.inspect", container=name)["state"] if status else ""
                self.complaints.append(
                    f"{name} was acknowledged as {expected or 'removed'} and is {status or 'gone'}: {why}"
                )
            self._containers[name] = status
        volumes = {each["name"] for each in connection.call("volume.list")["volumes"]}
        tags = {tag for each in connection.call("image.list")["images"] for tag in each["tags"]}
        for books, there in (
            (self._volumes, volumes),
            (self._images, {tag.removesuffix(":latest") for tag in tags}),
        ):
            for name, expected_there in books.items():
                if expected_there is not None and expected_there != (name in there):
                    self.complaints.append(
                        f"{name} was acknowledged as {expected_there}, and is {name in there}"
                    )
                books[name] = name in there

    def _call(
        self,
        books: dict[str, Any],
        name: str,
        after: Any,
        connection: Connection,
        method: str,
        /,
        **params: Any,
    ) -> None:
        before, books[name] = books[name], None
        try:
            connection.call(method, **params)
        except Unreachable:
            raise
        except JockerError as error:
            books[name] = before
            self.complaints.append(f"{method} {params}: {error}")
        else:
            books[name] = after
            self.acknowledged += 1

    def _container(self, connection: Connection) -> None:
        name = self._dice.choice(list(self._containers))
        status, books = self._containers[name], self._containers
        if status == "":
            cmd = ["sleep", "1000"]
            mounts = [{"type": "volume", "target": "/own"}]
            self._call(books, name, "created", connection, "container.create",
                       image="base", name=name, cmd=cmd, mounts=mounts, stop_timeout=0)  # fmt: skip
        elif status == "running":
            method, after = self._dice.choice((("stop", "exited"), ("remove", "")))
            more = {"force": True, "volumes": True} if method == "remove" else {}
            self._call(books, name, after, connection, f"container.{method}", container=name, **more)
        elif status is not None:
            method, after = self._dice.choice((("start", "running"), ("remove", "")))
            more = {"volumes": True} if method == "remove" else {}
            self._call(books, name, after, connection, f"container.{method}", container=name, **more)

    def _volume(self, connection: Connection) -> None:
        name = self._dice.choice(list(self._volumes))
        if self._volumes[name]:
            self._call(self._volumes, name, False, connection, "volume.remove", volume=name)
        else:
            self._call(self._volumes, name, True, connection, "volume.create", name=name)

    def _image(self, connection: Connection) -> None:
        name = self._dice.choice(list(self._images))
        if self._images[name]:
            self._call(self._images, name, False, connection, "image.remove", image=name)
            return
        text = f"FROM base\nRUN echo {self._dice.random()} > /made\n"
        before, self._images[name] = self._images[name], None
        try:
            ticket = connection.call("image.build", tags=[name], dockerfile_text=text)
            with connection.stream(ticket["token"]) as stream:
                stream.send(wire.EOF)
                stream.result()
        except (Unreachable, NotFound):
            raise Unreachable("cut off") from None  # the ticket was of an engine that is no more
        except JockerError as error:
            self._images[name] = before
            self.complaints.append(f"build: {error}")
        else:
            self._images[name] = True
            self.acknowledged += 1
