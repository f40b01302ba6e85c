import argparse
import asyncio
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import TypeVar

from services.commands.stores import missing_folder, patiently, settings_of
from services.common.errors import SetupError
from services.common.runtime.concurrency import Backoff
from services.common.storage.backends import open_store
from services.common.storage.keys import FaceKey, day_in, parse_key
from services.common.storage.objects import NoSuchObject, ObjectStore, StoreUnavailable
from services.common.storage.settings import ObjectStoreSettings
from services.common.wire.faces import mint_id

T = TypeVar("T")

AT_ONCE = 16
RETRIES = 5
FIRST_RETRY_S, LAST_RETRY_S = 0.2, 5.0
TELL_EVERY_S = 2.0


@dataclass
class CopyProgress:
    """The progress of a copy.

    Attributes:
        copied: faces that were copied.
        held: faces that the target had already.
        wrong: keys whose content does not match the id, or that have no metadata.
    """

    copied: int = 0
    held: int = 0
    wrong: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return f"{self.copied} copied, {self.held} were there, {len(self.wrong)} are damaged"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line of `faceferry copy`."""
    parser.add_argument("source", metavar="FROM", help="s3://bucket/prefix, or a folder")
    parser.add_argument("target", metavar="TO", help="likewise; FACEFERRY_S3_... and AWS_... hold for both")
    parser.add_argument(
        "--check", action="store_true", help="read what is there already, too, and compare it with its id"
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Copy all faces with their metadata; return 1 if some are damaged.

    Raises:
        SetupError: a store cannot be used, or has no faces; or it stopped in the middle.
    """
    source, target = settings_of(options.source), settings_of(options.target)
    if source.store_url == target.store_url:
        raise SetupError(f"{source.store_url} would be copied to itself")
    if (missing := missing_folder(source.store_url)) is not None:
        raise SetupError(f"there is no folder {missing} to copy from")
    progress = CopyProgress()
    try:
        asyncio.run(_copy(source, target, progress, is_checked=options.check))
    except* StoreUnavailable as errors:
        raise SetupError(
            f"{progress}, then {errors.exceptions[0]}; the same command goes on from here"
        ) from None
    if not (progress.copied or progress.held or progress.wrong):
        raise SetupError(f"there are no faces in {source.store_url}")
    print(progress)
    for key in progress.wrong:
        print(f"damaged: {key}", file=sys.stderr)
    return 1 if progress.wrong else 0


async def _copy(
    copied: ObjectStoreSettings, to: ObjectStoreSettings, progress: CopyProgress, *, is_checked: bool
) -> None:
    async with open_store(copied) as source, open_store(to) as target, asyncio.TaskGroup() as tasks:
        await target.verify()
        telling = tasks.create_task(_tell(progress))
        async for folder in _camera_folders(source):
            held = {name async for names in target.names(folder) for name in names}
            await Copier(source, target, progress, held, is_checked=is_checked).copy(folder)
        telling.cancel()


class Copier:
    """Copies the faces of one camera's day.

    Args:
        source: the store to copy from.
        target: the store to copy to.
        progress: is updated.
        held: names that the target has in this folder already.
        is_checked: whether those are read and compared with their ids.
    """

    def __init__(
        self,
        source: ObjectStore,
        target: ObjectStore,
        progress: CopyProgress,
        held: set[str],
        *,
        is_checked: bool,
    ) -> None:
        self._source = source
        self._target = target
        self._progress = progress
        self._held = held
        self._is_checked = is_checked

    async def copy(self, folder: str) -> None:
        """Copy the faces in a folder, `AT_ONCE` at a time."""
        room = asyncio.Semaphore(AT_ONCE)
        async with asyncio.TaskGroup() as tasks:
            async for names in self._source.names(folder):
                for key in filter(None, (parse_key(f"{folder}/{name}") for name in names)):
                    await room.acquire()
                    tasks.create_task(self._copy_one(key)).add_done_callback(lambda _: room.release())

    async def _copy_one(self, key: FaceKey) -> None:
        is_held = str(key).rpartition("/")[2] in self._held
        if is_held and not self._is_checked:
            self._progress.held += 1
            return
        place = self._target if is_held else self._source
        try:
            item = await _patiently(lambda: place.get(str(key)))
        except NoSuchObject:
            self._progress.wrong.append(str(key))
            return
        if mint_id(key.source, key.time, item.body) != key.id:
            self._progress.wrong.append(str(key))
        elif is_held:
            self._progress.held += 1
        else:
            await _patiently(lambda: self._target.put(item))
            self._progress.copied += 1


async def _patiently(request: Callable[[], Awaitable[T]]) -> T:
    return await patiently(request, RETRIES, Backoff(FIRST_RETRY_S, LAST_RETRY_S))


async def _camera_folders(store: ObjectStore) -> AsyncIterator[str]:
    for day in await store.folders(""):
        if day_in(day) is None:
            continue
        for device in await store.folders(day):
            for camera in await store.folders(device):
                yield camera


async def _tell(progress: CopyProgress) -> None:
    began_s = time.monotonic()
    while True:
        await asyncio.sleep(TELL_EVERY_S)
        print(f"{progress} after {time.monotonic() - began_s:.0f} s", file=sys.stderr)
