"""What may happen to forward's spool: its disk, its files, its lock, its owner."""

import asyncio
import errno
import random
import signal
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tests.custody import damage
from tests.custody.comparison import objects_in
from tests.custody.driver import WRONG_DEVICE
from tests.custody.faces import DEVICE, known_face
from tests.custody.rig import Part, Rig

PLANTED = 30
SPOILT_AT_ONCE = 12
FILL_AGAIN_S = 0.02
GAP_TRIES = 40
HANGS_S = 3.0
"""Time enough for a second forward to start and to take faces."""


@asynccontextmanager
async def disk_full(rig: Rig, _rng: random.Random) -> AsyncIterator[None]:
    """Fill the spool's disk once: what forward frees is its own again."""
    filler = rig.spool / "filler"
    _fill(filler)
    yield
    filler.unlink()


@asynccontextmanager
async def disk_full_for_long(rig: Rig, rng: random.Random) -> AsyncIterator[None]:
    """Fill it to the last byte, again and again, so that reserve and deletes are eaten; drain, full again."""
    filler = rig.spool / "filler"
    filling = asyncio.create_task(_keep_full(filler))
    try:
        yield
    finally:
        filling.cancel()
        await asyncio.gather(filling, return_exceptions=True)
    filler.unlink()
    await asyncio.sleep(rng.uniform(1, 6))
    async with disk_full(rig, rng):
        await asyncio.sleep(rng.uniform(1, 3))


async def _keep_full(filler: Path) -> None:
    while True:
        _fill(filler)
        await asyncio.sleep(FILL_AGAIN_S)


def _fill(filler: Path) -> None:
    for piece_bytes in (64 * 1024, 4 * 1024, 1):
        try:
            with filler.open("ab", buffering=0) as file:
                while True:
                    file.write(bytes(piece_bytes))
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise


@asynccontextmanager
async def rows_spoilt_at_work(rig: Rig, rng: random.Random) -> AsyncIterator[None]:
    """Add damaged rows to the spool that forward is using, and have it read what waits there."""
    rows = _spoilt_rows(rig, rng)
    for _ in range(GAP_TRIES):
        try:
            added = await asyncio.to_thread(damage.plant_in_gaps, _database(rig), rows, rng)
        except sqlite3.DatabaseError as error:
            _note(rig, f"no rows added: {error}")
            break
        if not (rows := rows[added:]):
            break
        await asyncio.sleep(0.1)
    rig.link.cut()
    yield


@asynccontextmanager
async def spool_damaged(rig: Rig, rng: random.Random) -> AsyncIterator[None]:
    """Kill forward, add faces and damaged rows to its spool, damage the file, and start it again.

    Whole faces are added so that there is always something to rescue. Damage is chosen so that it destroys
    none of the faces that are only there; which of the others it does is known.
    """
    rig.parts["forward"].kill()
    await asyncio.to_thread(_damage, rig, rng)
    yield
    rig.parts["forward"].start()


def _damage(rig: Rig, rng: random.Random) -> None:
    path = _database(rig)
    number = len(rig.toll.planted)
    planted = [known_face("planted", number + more) for more in range(PLANTED)]
    try:
        damage.add(path, map(damage.as_row, planted))
        rig.toll.planted |= {face.id: face for face in planted}
        damage.plant_in_gaps(path, _spoilt_rows(rig, rng), rng)
        spare = _only_there(rig, path)
        harmed = damage.harm(path, spare, rng)
    except sqlite3.DatabaseError as error:
        _note(rig, f"the spool could not be damaged: {error}")
        return
    rig.toll.destroyed |= harmed.destroyed
    rig.toll.harms[harmed.kind] = rig.toll.harms.get(harmed.kind, 0) + 1


def _only_there(rig: Rig, path: Path) -> set[str]:
    """Return the ids of all that is in a spool and not in the bucket, but for what was planted."""
    damage.settle(path)
    held = {_text(row[0]) for row in damage.rows_of(path).values()}
    stored = {Path(key).stem for key in objects_in(rig.objects)}
    return held - stored - rig.toll.planted.keys() - rig.toll.spoilt


def _spoilt_rows(rig: Rig, rng: random.Random) -> list[damage.Row]:
    kinds = rng.choices(damage.SPOILT, k=SPOILT_AT_ONCE)
    number = len(rig.toll.spoilt)
    faces = [known_face("spoilt", number + more) for more in range(len(kinds))]
    rig.toll.spoilt |= {face.id for face in faces}
    return [damage.spoil(face, kind, rng) for face, kind in zip(faces, kinds, strict=True)]


@asynccontextmanager
async def second_forward_beside(rig: Rig, _rng: random.Random) -> AsyncIterator[None]:
    """Delete the lock and start a second forward on the same spool, while the first hangs and then goes on.

    The local broker is killed in between, so that the first does not see what the second has taken. Nothing
    gets to the cloud, and in the end both are killed: what they have receipted is on the disk or nowhere.
    """
    first = rig.services["forward"]
    await rig.link.refuse()
    _delete_lock(rig)
    first.process.signal(signal.SIGSTOP)
    rig.standby.start()
    waking = asyncio.create_task(_take_turns(rig, first))
    try:
        yield
    finally:
        await waking
    rig.standby.kill()
    first.kill()
    first.start()
    await rig.link.listen()


async def _take_turns(rig: Rig, first: Part) -> None:
    await asyncio.sleep(HANGS_S)
    rig.standby.kill()
    rig.local.kill()
    await asyncio.to_thread(rig.local.start)
    first.process.signal(signal.SIGCONT)


@asynccontextmanager
async def second_forward_instead(rig: Rig, _rng: random.Random) -> AsyncIterator[None]:
    """Delete the lock, and have a second forward go on where the first was killed."""
    _delete_lock(rig)
    rig.standby.start()
    rig.parts["forward"].kill()
    yield
    rig.standby.kill()
    rig.parts["forward"].start()


def _delete_lock(rig: Rig) -> None:
    """Delete whatever looks like a lock."""
    for path in rig.spool.glob("*lock*"):
        path.unlink()


@asynccontextmanager
async def wrong_device(rig: Rig, rng: random.Random) -> AsyncIterator[None]:
    """The edge is called something else for a while, detect's faces and forward, and is then called right.

    The broker lets nobody write under another's name. With the cause fixed, what was set aside is put back.
    """
    await _rename(rig, WRONG_DEVICE)
    yield
    if rng.random() < 0.5:
        await _rename(rig, DEVICE)
        await rig.requeue()
        return
    rig.parts["forward"].kill()
    await rig.requeue()
    await _rename(rig, DEVICE)


async def _rename(rig: Rig, device: str) -> None:
    forward = rig.services["forward"]
    forward.kill()
    forward.process._environment["FACEFERRY_DEVICE"] = rig.device = device
    forward.start()


def _database(rig: Rig) -> Path:
    return rig.spool / damage.DATABASE


def _note(rig: Rig, text: str) -> None:
    rig.notes.append(text)


def _text(value: object) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)
