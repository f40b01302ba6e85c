"""Orders to erase, as they come from the cloud's broker, and the reports about them."""

from collections.abc import Callable

import structlog

from services.common.erasure.entries import LogEntry, read
from services.common.erasure.reports import Report, write_report
from services.common.erasure.selection import ERASED, ErasedFaces, Selection
from services.common.errors import Refused
from services.common.wire.message import Message
from services.common.wire.topics import Source, device_topic
from services.forward.metrics import ERASURES
from services.forward.spool.commands import Erase
from services.forward.spool.erasure_log import ErasureLog

log = structlog.get_logger()


class ErasureOrders:
    """Obeys orders to erase that the key's holder has signed for this device, and no others.

    An order that was carried out and comes again is only reported again.

    Args:
        erasure_log: the orders that came before; only the writer adds to it.
        put: hands a command to the spool's writer.

    Attributes:
        subscription: the topic filter that orders come on.
    """

    def __init__(self, erasure_log: ErasureLog, put: Callable[[Erase], None]) -> None:
        self.subscription = device_topic(erasure_log.device, "erase/+")
        self._device = erasure_log.device
        self._log = erasure_log
        self._put = put
        self._holders: list[Callable[[Selection], None]] = []
        self._kept_out = ErasedFaces()
        self._known: set[str] = set()
        for order in erasure_log.orders.values():
            self._know(order)

    def add_holder(self, erase: Callable[[Selection], None]) -> None:
        """Have each selection to erase be passed to something that holds faces beside the spool."""
        self._holders.append(erase)

    def resume(self) -> None:
        """Carry out the orders that a process before this one has not finished."""
        for order in self._log.unfinished:
            self._carry_out(order)

    def is_order(self, topic: str) -> bool:
        """Say whether a topic is that of orders to this device."""
        return topic.startswith(device_topic(self._device, "erase/"))

    def hear(self, message: Message) -> Message | None:
        """Take an order; return the report to publish if it was carried out before, else None.

        Raises:
            Refused: the message is no order; `bad_signature`: the key's holder has not signed it;
                `other_device`, `bad_topic`: it is not for this device, or not for this topic.
        """
        if not message.payload:
            return None  # a retained order was removed from the broker
        order = read(message.payload, self._log.verify)
        if order.selection.device not in (None, self._device):
            raise Refused("other_device", f"an order for {order.selection.device}")
        if message.topic != device_topic(self._device, f"erase/{order.name}"):
            raise Refused("bad_topic", message.topic[:200])
        if (report := self._log.reports.get(order.name)) is not None:
            return self.message(report)
        if order.name not in self._known:
            log.warning("forward.erasure_ordered", order=order.name, selection=str(order.selection))
            self._know(order)
            self._carry_out(order)
        return None

    def check(self, source: Source, face_id: str, visit: str | None) -> None:
        """Check that a face was not erased.

        Args:
            source: its camera.
            face_id: its id.
            visit: the id of its visit, or None if it has none.

        Raises:
            Refused: `erased`.
        """
        if self._kept_out.takes(source, face_id, visit):
            raise Refused(ERASED, face_id)

    def message(self, report: Report) -> Message:
        """Return the message that reports an order that was carried out."""
        topic = device_topic(self._device, f"erased/{report.order}")
        return Message(topic=topic, payload=write_report(report), qos=1, content_type="application/json")

    def _carry_out(self, order: LogEntry) -> None:
        for erase in self._holders:
            erase(order.selection)
        self._put(Erase(order))

    def _know(self, order: LogEntry) -> None:
        self._known.add(order.name)
        self._kept_out.add([order.selection])
        ERASURES.set(len(self._known))
