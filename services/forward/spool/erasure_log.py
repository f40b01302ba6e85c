"""Orders to erase that came to a device, and the reports about them: a file in the spool's folder.

It is beside the database and not in it, so that it survives when a damaged database is replaced: what is
found in its pages then may be what was erased.
"""

import os
from pathlib import Path

from services.common.erasure.entries import LogEntry, Verify, read
from services.common.erasure.reports import Report, read_report, write_report
from services.common.errors import Refused
from services.common.runtime.files import private, sync_folder
from services.forward.spool.database import translated

ORDERS = "erasures"


class ErasureLog:
    """Remembers orders and reports, a line each; it is read at the start.

    A line that was cut off by a power cut is ignored: its order comes again.

    Args:
        folder: the spool's.
        device: this device.
        verify: checks a line's signature; one that is not of the key's holder is no order.

    Attributes:
        device: this device.
        verify: as given.
        orders: by their names, in the order in which they came.
        reports: of the orders that were carried out, by the order's name.
    """

    def __init__(self, folder: Path, device: str, verify: Verify) -> None:
        self.device = device
        self.verify = verify
        self._path = folder / ORDERS
        self.orders: dict[str, LogEntry] = {}
        self.reports: dict[str, Report] = {}
        for line in self._path.read_bytes().split(b"\n") if self._path.exists() else []:
            self._take(line)

    @property
    def unfinished(self) -> list[LogEntry]:
        """The orders that were not carried out yet."""
        return [order for name, order in self.orders.items() if name not in self.reports]

    def add(self, order: LogEntry) -> None:
        """Remember an order, unless it is known; it is on the disk when this returns.

        Raises:
            SpoolFull, SpoolUnwritable: it could not be written, and is not remembered.
        """
        if order.name not in self.orders:
            self._write(order.line)
            self.orders[order.name] = order

    def done(self, report: Report) -> None:
        """Remember the report of an order that was carried out; it is on the disk when this returns.

        Raises:
            SpoolFull, SpoolUnwritable: it could not be written, and is not remembered.
        """
        if report.order not in self.reports:
            self._write(write_report(report))
            self.reports[report.order] = report

    def _take(self, line: bytes) -> None:
        try:
            order = read(line, self.verify)
            order.selection  # noqa: B018 - it is none if it raises
            self.orders[order.name] = order
        except Refused:
            self._take_report(line)

    def _take_report(self, line: bytes) -> None:
        try:
            report = read_report(line)
        except Refused:
            return
        self.reports[report.order] = report

    def _write(self, line: bytes) -> None:
        with translated():
            is_new = not self._path.exists()
            with open(self._path, "ab", opener=private) as file:
                # Behind a line that was cut off: it ends here.
                file.write(b"\n" + line + b"\n")
                file.flush()
                os.fsync(file.fileno())
            if is_new:
                sync_folder(self._path.parent)
