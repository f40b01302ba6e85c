from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import date

from services.common.storage.index.reading import Index
from services.common.storage.index.rows import Row
from services.common.storage.objects import Files


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which faces are asked for: all that agree with what is named.

    Attributes:
        device: of this device.
        camera: of its, or of each device's, camera of this name.
        visit: of this visit.
        first: of this day, UTC, or later.
        last: of this day or earlier.
    """

    device: str | None = None
    camera: str | None = None
    visit: str | None = None
    first: date | None = None
    last: date | None = None

    def takes(self, row: Row) -> bool:
        """Say whether a face of one of the days is asked for."""
        return (
            self.device in (None, row.device)
            and self.camera in (None, row.camera)
            and self.visit in (None, row.visit)
        )

    def takes_day(self, day: date) -> bool:
        """Say whether faces of a day may be."""
        return (self.first or date.min) <= day <= (self.last or date.max)


async def find(files: Files, wanted: Wanted) -> AsyncIterator[Row]:
    """Yield everything that the index knows of what is wanted, the oldest first, each face once.

    All of the days is read. The index may lag, and of a face that is not `known` it cannot tell the visit:
    whoever must have all of them mends the days before.

    Args:
        files: the store.
        wanted: which faces.
    """
    index = Index(files)
    for day in await index.days():
        if wanted.takes_day(day):
            for hour in await index.hours(day):
                for row in await index.rows(hour):
                    if wanted.takes(row):
                        yield row
