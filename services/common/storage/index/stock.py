from collections import defaultdict

from services.common.parquet import tables
from services.common.storage.index import rows
from services.common.storage.index.names import Hour
from services.common.storage.index.rows import Row


class Stock:
    """Rows by the hour, packed: a day of a large fleet has millions, and they come device by device."""

    def __init__(self) -> None:
        self._open: defaultdict[Hour, list[Row]] = defaultdict(list)
        self._packed: defaultdict[Hour, list[bytes]] = defaultdict(list)

    @property
    def hours(self) -> set[Hour]:
        """The hours that there are rows of."""
        return {*self._open, *self._packed}

    def add(self, row: Row) -> None:
        """Add a row."""
        hour = Hour.of(row.id)
        some = self._open[hour]
        some.append(row)
        if len(some) >= rows.GROUP_ROWS:
            self._packed[hour].append(rows.encode(some))
            some.clear()

    def take(self, hour: Hour) -> list[Row]:
        """Return an hour's rows by their ids, each face once, and forget them."""
        packed = self._packed.pop(hour, [])
        unpacked = [
            row for body in packed for group in tables.read_footer(body) for row in rows.decode(group, body)
        ]
        return rows.tidied([*unpacked, *self._open.pop(hour, [])])
