"""Which modules of forward are handed a face, on its way to the cloud and to the disk."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from types import FrameType
from typing import Any, cast

import pytest

from services import forward
from services.common.wire.faces import encode_face, mint
from services.common.wire.message import Message
from services.common.wire.seen import decode_wanted, encode_seen
from services.common.wire.times import from_unix_s
from services.forward import receiver, sender
from services.forward.delivered import Delivered
from services.forward.receiver import Receiver
from services.forward.sender import Sender
from services.forward.settings import ForwardSettings
from services.forward.spool.disk import Spool
from services.forward.spool.folder import prepare
from services.forward.spool.writer import SpoolWriter
from tests.storing import jpeg
from tests.support import eventually
from tests.tracing import traced
from tests.visits_rig import FRONT, seen, sight

CODE = Path(forward.__file__).parent


@dataclass
class Arrival:
    message: Message

    def acknowledge(self) -> None:
        pass


class FakeLink:
    """A connection that is there when it is said to be, and keeps what is published."""

    def __init__(self, *_: object, on_up: Callable[[], None], will: Any, **__: object) -> None:
        self._on_up = on_up
        self._will = will
        self.is_up = True
        self.max_packet_bytes = 1 << 28
        self.arrivals: asyncio.Queue[Arrival] = asyncio.Queue()
        self.published: list[Message] = []

    def publish(self, message: Message, _then: Callable[[str | None], None] | None = None) -> None:
        self.published.append(message)

    def connect(self) -> None:
        self._will()
        self._on_up()

    async def __aiter__(self) -> AsyncIterator[Arrival]:
        while True:
            yield await self.arrivals.get()


def holds(value: Any, image: bytes, depth: int = 4) -> bool:
    """Say whether an image is in a value: in a message, a face, a list of faces, a batch of changes."""
    if isinstance(value, bytes):
        return value == image
    if depth == 0:
        return False
    if is_dataclass(value) and not isinstance(value, type):
        return any(holds(getattr(value, each.name), image, depth - 1) for each in fields(value))
    return isinstance(value, list | tuple) and any(holds(each, image, depth - 1) for each in value)


def of_kind(link: FakeLink, kind: str) -> list[Message]:
    return [each for each in link.published if each.topic.endswith(f"/{kind}")]


@contextmanager
def handed(image: bytes) -> Iterator[dict[bool, set[str]]]:
    """Note the modules whose functions are given an image, or return it: in the event loop, and elsewhere."""
    loop = threading.get_ident()
    modules: dict[bool, set[str]] = {True: set(), False: set()}

    def note(frame: FrameType, event: str, returned: object) -> None:
        code = frame.f_code
        if event not in {"call", "return"} or not code.co_filename.startswith(str(CODE)):
            return
        names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
        given = [frame.f_locals.get(name) for name in names if name != "self"] if event == "call" else []
        if holds([*given, returned], image, 6):
            name = str(Path(code.co_filename).relative_to(CODE))
            modules[threading.get_ident() == loop].add(name)

    with traced(note):
        yield modules


async def test_a_face_crosses_six_modules_to_the_cloud_and_six_to_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (receiver, sender):
        monkeypatch.setattr(module, "Link", FakeLink)
    prepare(tmp_path / "spool")
    settings = ForwardSettings(
        cloud_mqtt_url="mqtt://cloud", device=FRONT.device, keep="visits", spool_path=tmp_path / "spool"
    )
    writer = SpoolWriter(Spool(settings.spool_path, 1 << 20, FRONT.device), 1 << 30)
    delivered = Delivered()
    sending = Sender(settings, writer, delivered, 0)
    receiving = Receiver(settings, writer, delivered, sending)
    local, cloud = cast("FakeLink", receiving.link), cast("FakeLink", sending.link)
    image = jpeg()
    with handed(image) as modules:
        runs = (writer.run(receiving, sending), sending.run(), receiving.run())
        tasks = [asyncio.create_task(run) for run in runs]
        cloud.connect()
        local.arrivals.put_nowait(Arrival(encode_seen(seen(1.0, sight()))))
        await eventually(lambda: of_kind(local, "wanted"))
        [wanted] = decode_wanted(of_kind(local, "wanted")[0]).wanted or ()
        visit = {"visit": wanted.visit, "shot": str(wanted.shot)}
        face = mint(FRONT, from_unix_s(1.8e9), image, "image/jpeg", {"box": "1,2,3,4", **visit})
        local.arrivals.put_nowait(Arrival(encode_face(face)))
        await eventually(lambda: of_kind(cloud, "face") and of_kind(local, "taken"))
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
    assert of_kind(local, "latest"), "it was a visit's"
    assert modules[True] == {
        "receiver.py",
        "chooser.py",
        "spool/writer.py",
        "sender.py",
        "outbox.py",
        "pending.py",
    }
    assert modules[False] == {
        "spool/writer.py",
        "spool/commands.py",
        "spool/disk.py",
        "spool/tables.py",
        "spool/rows.py",
        "spool/face.py",
    }
