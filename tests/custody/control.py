"""The judge judged: a bucket that was perfect is spoilt in each way, and the judge must say so."""

import itertools
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from tests.custody.comparison import Comparison, compare, objects_in
from tests.custody.damage import Toll
from tests.custody.driver import Driver
from tests.storing import jpeg

Spoiling = Callable[[Path, str], AbstractContextManager[None]]
"""Does something to an object of a bucket, by key, and undoes it."""


@contextmanager
def _lost(objects: Path, key: str) -> Iterator[None]:
    content = (objects / key).read_bytes()
    (objects / key).unlink()
    yield
    (objects / key).write_bytes(content)


@contextmanager
def _changed(objects: Path, key: str) -> Iterator[None]:
    content = (objects / key).read_bytes()
    (objects / key).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    yield
    (objects / key).write_bytes(content)


@contextmanager
def _doubled(objects: Path, key: str) -> Iterator[None]:
    with _added(objects, f"{key[:-4]}-again.jpg", (objects / key).read_bytes()):
        yield


@contextmanager
def _foreign(objects: Path, key: str) -> Iterator[None]:
    with _added(objects, f"{key[:-4]}-foreign.jpg", jpeg(3)):
        yield


@contextmanager
def _added(objects: Path, key: str, content: bytes) -> Iterator[None]:
    (objects / key).write_bytes(content)
    yield
    (objects / key).unlink()


def _counts(found: Comparison) -> tuple[int, int, int, int]:
    return len(found.lost), len(found.differing), len(found.duplicates), len(found.unexpected)


SPOILINGS: dict[str, tuple[Spoiling, tuple[int, int, int, int]]] = {
    "a lost face": (_lost, (1, 0, 0, 0)),
    "a changed face": (_changed, (0, 1, 0, 0)),
    "a face stored twice": (_doubled, (0, 0, 2, 1)),
    "a face that nobody published": (_foreign, (0, 0, 0, 1)),
}
"""What is done, and what must be said of it: lost, differing, duplicates, unexpected."""


UNSPOILT = "nothing wrong"


def missed(objects: Path, judge: Callable[[], Comparison], key: str) -> tuple[str, ...]:
    """Spoil a perfect bucket in each way, by one object, and return what the judge has not said of it.

    Args:
        objects: the bucket's folder; it is left as it was.
        judge: says what is wrong with it.
        key: of the object.
    """
    unseen = []
    for name, (spoiling, expected) in SPOILINGS.items():
        with spoiling(objects, key):
            if _counts(judge()) != expected:
                unseen.append(name)
    if not judge().is_perfect:
        unseen.append(UNSPOILT)
    return tuple(unseen)


def missed_by_the_judge(objects: Path, toll: Toll, driver: Driver) -> tuple[str, ...] | None:
    """Show the judge of a run what it would have to say, or None where the run itself was not perfect."""

    def judge() -> Comparison:
        return compare(objects, itertools.chain(driver.offered(), toll.planted.values()), toll.destroyed)

    before = judge()
    if not before.is_perfect:
        return None
    demanded = {face.id for face in driver.offered()}
    key = next(key for key in sorted(objects_in(objects)) if Path(key).stem in demanded - toll.destroyed)
    return missed(objects, judge, key)
