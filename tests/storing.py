"""What the tests of the store share: faces, hostile messages, and the service as a process."""

import asyncio
import dataclasses
import functools
import json
import os
import random
import signal
import struct
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import cv2
import numpy as np
import psutil

from services.common.mqtt import Link
from services.common.storage.backends import open_store
from services.common.storage.objects import Copy, ListedObject, StoredObject, StoreUnavailable
from services.common.storage.settings import ObjectStoreSettings
from services.common.wire import faces, times
from services.common.wire.faces import Face
from services.common.wire.message import Message
from services.common.wire.receipts import Receipt, decode_receipt
from services.common.wire.topics import Source
from services.store.admission import to_object
from services.up.brokers import free_port
from tests.support import eventually

PORCH = Source("porch", "front")
TIME = times.parse_rfc3339("2026-01-31T23:59:59.000007Z")


@functools.cache
def jpeg(number: int = 0) -> bytes:
    """A small real JPEG, a different one for each number."""
    return _encode(".jpg", number)


@functools.cache
def png(number: int = 0) -> bytes:
    return _encode(".png", number)


def face(number: int = 0, source: Source = PORCH) -> Face:
    known = {"box": "1,2,3,4", "framesize": "640x480", "score": "0.912"}
    return faces.mint(source, TIME, jpeg(number), "image/jpeg", known)


def message_of(image: bytes, content_type: str = "image/jpeg") -> Message:
    """A message that is right in everything but, perhaps, its image."""
    return faces.encode_face(faces.mint(PORCH, TIME, image, content_type, {}))


def with_attribute(message: Message, name: str, value: str) -> Message:
    kept = [(key, old) for key, old in message.attributes if key != name]
    return dataclasses.replace(message, attributes=(*kept, (name, value)))


_PATHS = ["..", "../../etc", "%2e%2e", "a b", "", "A", "é", "-a", "a" * 64, "a=b", "dt=2026-01-01", "\\"]

HOSTILE: dict[str, Callable[[random.Random], Message]] = {
    "random bytes": lambda rng: message_of(rng.randbytes(rng.randrange(2_000))),
    "no properties": lambda rng: Message(
        topic="faceferry/porch/front/face", payload=jpeg(rng.randrange(8)), qos=1
    ),
    "repeated property": lambda rng: _with_more(rng, [("id", "x"), ("box", "1")]),
    "huge properties": lambda rng: _with_more(
        rng, [(f"x{n}", "y" * rng.randrange(300, 500)) for n in range(9)]
    ),
    "many properties": lambda rng: _with_more(rng, [(f"x{n}", "y") for n in range(rng.randrange(65, 400))]),
    "hostile value": lambda rng: _with_more(
        rng, [("box", rng.choice(["1\r\nx-amz-acl: public-read", "\x7f", "é", "\N{SNOWMAN}", "\t"]))]
    ),
    "hostile name": lambda rng: _with_more(
        rng, [(rng.choice(["x-amz-acl", "Content-Type", "..", "A", "a" * 21]), "1")]
    ),
    "path in the device": lambda rng: _on_topic(f"faceferry/{rng.choice(_PATHS)}/front/face"),
    "path in the camera": lambda rng: _on_topic(f"faceferry/porch/{rng.choice(_PATHS)}/face"),
    "path in the id": lambda rng: with_attribute(message_of(jpeg()), "id", rng.choice(_PATHS) * 3),
    "wrong digest": lambda rng: with_attribute(
        message_of(jpeg()), "id", f"20260131T235959.000007Z-{rng.randbytes(16).hex()}"
    ),
    "wrong time": lambda rng: with_attribute(
        message_of(jpeg()), "time", rng.choice(["2026-02-31T00:00:00.000000Z", "now", "9" * 27])
    ),
    "a time that is none": lambda _: faces.encode_face(
        faces.mint(PORCH, times.parse_rfc3339("0001-01-01T00:00:00.000000Z"), jpeg(), "image/jpeg", {})
    ),
    "other source": lambda rng: with_attribute(
        message_of(jpeg()), "source", rng.choice(["porch/yard", "/", "../.."])
    ),
    "other type": lambda rng: with_attribute(
        message_of(jpeg()), "type", rng.choice(["faceferry.frame.v1", "x"])
    ),
    "truncated": lambda rng: message_of(jpeg()[: rng.randrange(3, len(jpeg()))]),
    "truncated PNG": lambda rng: message_of(png()[: rng.randrange(3, len(png()))], "image/png"),
    "bytes behind the end": lambda rng: message_of(jpeg() + rng.randbytes(rng.randrange(1, 20_000))),
    "65535x65535": lambda _: message_of(_resized(jpeg(), 65_535)),
    "no area": lambda _: message_of(_resized(jpeg(), 0)),
    "PNG as JPEG": lambda _: message_of(png()),
    "no image type": lambda rng: message_of(jpeg(), rng.choice(["text/html", "image/svg+xml", "x" * 100])),
}


class Bucket:
    """A bucket that does as it is told."""

    check_every_s = 1.0

    def __init__(self) -> None:
        self.objects: dict[str, StoredObject] = {}
        self.problems: list[str] = []
        self.trouble: str | None = None
        self.is_open = asyncio.Event()
        self.is_open.set()
        self.puts = 0
        self.on_put: Callable[[], None] = lambda: None
        self.at_a_time = 0
        self.most_at_a_time = 0

    async def put(self, item: StoredObject) -> bool:
        self.on_put()
        with self._counted():
            await self.is_open.wait()
            await asyncio.sleep(0)
        if self.problems:
            raise StoreUnavailable(self.problems.pop(0))
        is_new = item.key not in self.objects
        self.objects[item.key] = item
        return is_new

    @contextmanager
    def _counted(self) -> Iterator[None]:
        self.puts += 1
        self.at_a_time += 1
        self.most_at_a_time = max(self.most_at_a_time, self.at_a_time)
        try:
            yield
        finally:
            self.at_a_time -= 1

    async def verify(self) -> None:
        raise NotImplementedError

    async def check(self, room_bytes: int) -> None:  # noqa: ARG002 - it has room
        if self.trouble is not None:
            raise StoreUnavailable(self.trouble)

    async def get(self, key: str) -> StoredObject:
        raise NotImplementedError

    async def about(self, key: str) -> Mapping[str, str]:
        raise NotImplementedError

    def entries(self, folder: str) -> AsyncIterator[ListedObject]:
        raise NotImplementedError

    async def first(
        self, folder: str, count: int, *, after: str = "", before: str = ""
    ) -> list[ListedObject]:
        raise NotImplementedError

    def reverse_entries(
        self, folder: str, *, before: str = "", at_once: int = 64
    ) -> AsyncIterator[ListedObject]:
        raise NotImplementedError

    def names(self, folder: str, *, after: str = "", before: str = "") -> AsyncIterator[list[str]]:
        raise NotImplementedError

    async def folders(self, folder: str, *, after: str = "", most: int = sys.maxsize) -> list[str]:
        raise NotImplementedError

    def copies(self, folder: str) -> AsyncIterator[Copy]:
        raise NotImplementedError

    async def remove_copies(self, copies: Sequence[Copy]) -> Mapping[Copy, str]:
        raise NotImplementedError

    async def link(self, key: str, valid_s: int) -> str | None:
        raise NotImplementedError


class StoreProcess:
    """The store service as its users run it."""

    def __init__(self, broker_url: str, store_url: str, log: Path, **environment: str) -> None:
        self._port = free_port()
        self._log = log
        self._environment = {
            **{
                name: value
                for name, value in os.environ.items()
                if not name.startswith(("FACEFERRY_", "AWS_"))
            },
            "AWS_EC2_METADATA_DISABLED": "true",
            "FACEFERRY_LOG_LEVEL": "debug",
            "FACEFERRY_CLOUD_MQTT_URL": broker_url,
            "FACEFERRY_STORE_URL": store_url,
            "FACEFERRY_HTTP_PORT": str(self._port),
            **environment,
        }

    def __enter__(self) -> Self:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "services.store"], env=self._environment, stderr=log
            )
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def stop(self) -> int:
        """Ask it to stop; return its exit status."""
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(10)

    def wait(self) -> int:
        return self._process.wait(10)

    @property
    def log(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self._log.read_text().splitlines() if line.startswith("{")]

    @property
    def output(self) -> str:
        return self._log.read_text()

    @property
    def resident_bytes(self) -> int:
        resident: int = psutil.Process(self._process.pid).memory_info().rss
        return resident

    def problems(self) -> dict[str, str]:
        """What is not ready, by name; `{"http": ...}` before it answers at all."""
        try:
            body = self._get("readyz")
        except urllib.error.HTTPError as error:
            body = error.read().decode()
            error.close()
        except OSError as error:
            return {"http": str(error)}
        checks: dict[str, str] = json.loads(body)["checks"]
        return {name: why for name, why in checks.items() if why != "ok"}

    def metric(self, name: str) -> float:
        """The sum of a metric over its labels."""
        lines = [
            line for line in self._get("metrics").splitlines() if line.startswith((f"{name} ", f"{name}{{"))
        ]
        return sum(float(line.rpartition(" ")[2]) for line in lines)

    async def until_ready(self) -> Self:
        await eventually(lambda: not self.problems())
        return self

    def _get(self, path: str) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{self._port}/{path}", timeout=5) as answer:
            text: str = answer.read().decode()
        return text


async def receipted(link: Link, wanted: int, timeout_s: float = 20.0) -> Receipt:
    """Collect receipts until `wanted` ids are in them, stored or refused."""
    ids: frozenset[str] = frozenset()
    refused: dict[str, str] = {}
    async with asyncio.timeout(timeout_s):
        while len(ids) + len(refused) < wanted:
            delivery = await anext(link)
            receipt = decode_receipt(delivery.message)
            delivery.acknowledge()
            ids |= receipt.ids
            refused |= receipt.refused
    return Receipt(ids, refused)


def images_in(folder: Path) -> dict[str, bytes]:
    """The faces in a folder, by their path below it."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("dt=*/**/*.*")
        if path.suffix in (".jpg", ".png")
    }


def names_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def _with_more(rng: random.Random, more: list[tuple[str, str]]) -> Message:
    message = message_of(jpeg(rng.randrange(8)))
    return dataclasses.replace(message, attributes=(*message.attributes, *more))


def _on_topic(topic: str) -> Message:
    return dataclasses.replace(message_of(jpeg()), topic=topic)


def _resized(image: bytes, side: int) -> bytes:
    """The image, claiming another size in its frame header."""
    start = image.index(b"\xff\xc0") + 5
    return image[:start] + struct.pack(">HH", side, side) + image[start + 4 :]


def _encode(suffix: str, number: int) -> bytes:
    pixels = np.random.default_rng(number).integers(0, 256, (16, 16, 3), np.uint8)
    is_encoded, data = cv2.imencode(suffix, pixels)
    assert is_encoded
    encoded: bytes = data.tobytes()
    return encoded


async def put(url: str, *items: Face) -> None:
    """Put faces into a store, which is made if it is not there."""
    async with open_store(ObjectStoreSettings(store_url=url)) as objects:
        await objects.verify()
        for face in items:
            await objects.put(to_object(face))
