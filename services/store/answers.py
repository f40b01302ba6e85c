import asyncio
from collections.abc import Callable

from services.common.mqtt import LinkDown, PacketTooLarge
from services.common.runtime.metrics import Drops
from services.common.wire.message import Message
from services.common.wire.receipts import MAX_IDS, Answer, encode_stored, sort_out
from services.store.metrics import DROPPED, RECEIPTED

DELAY_S = 0.02
"""So long may an answer wait for others. There is one clock for all devices, so that what goes to many of
them goes together: of ten thousand each has one answer due now and then."""

_drops = Drops(DROPPED, "store.receipt_dropped")


class Answers:
    """Tells each device, batch by batch, which of its faces are stored and which never will be.

    What cannot be sent is dropped: the device sends its faces again and is answered again.

    Args:
        publish: sends a message, or raises `LinkDown` or `PacketTooLarge`.
    """

    def __init__(self, publish: Callable[[Message], None]) -> None:
        self._publish = publish
        # Only devices with answers due are here: names come from the network, so they must not pile up.
        self._due: dict[str, list[Answer]] = {}

    def stored(self, device: str, face_id: str) -> None:
        """Answer that a face is durable."""
        self._add(device, (face_id, None))

    def refused(self, device: str, claimed: str, reason: str) -> None:
        """Answer that a face will never be taken, of which this is the id or what was said to be."""
        self._add(device, (claimed, reason))

    def _add(self, device: str, answer: Answer) -> None:
        if not self._due:
            asyncio.get_running_loop().call_later(DELAY_S, self._send_all)
        answers = self._due.setdefault(device, [])
        answers.append(answer)
        if len(answers) >= MAX_IDS:
            self._send(device, answers)
            answers.clear()

    def _send_all(self) -> None:
        due, self._due = self._due, {}
        for device, answers in due.items():
            if answers:
                self._send(device, answers)

    def _send(self, device: str, answers: list[Answer]) -> None:
        stored, refused, unnamed = sort_out(answers)
        try:
            self._publish(encode_stored(device, stored, refused, unnamed))
        except LinkDown:
            _drops.count("receipt_link_down", device=device)
        except PacketTooLarge:
            _drops.count("receipt_too_large", device=device)
        else:
            RECEIPTED.labels("stored").inc(len(stored))
            RECEIPTED.labels("refused").inc(len(refused) + len(unnamed))
