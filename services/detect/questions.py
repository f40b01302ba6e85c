"""Asks forward which faces are wanted, before they are cut."""

import asyncio
import itertools
import secrets
import time
from collections.abc import Callable

import structlog

from services.common.mqtt import LinkDown, PacketTooLarge
from services.common.runtime.queues import News
from services.common.wire.frames import Frame
from services.common.wire.message import Message
from services.common.wire.sights import (
    NOBODY,
    Answer,
    View,
    decode_wanted,
    encode_seen,
    seen_in,
    wanted_topic,
)
from services.detect import metrics

MOST_OPEN = 64
"""Each holds a frame; with so many no other frame is taken."""
PATIENCE_S = 0.25
"""For so long is a live camera's answer awaited. Then all faces are wanted: in doubt, keep."""
IMPATIENCE_S = 0.02
"""The same while forward has not answered the one before."""
PACED_PATIENCE_S = 1.0
PACED_TRIES = 6
"""A recording's frames can wait, and are asked for again: a replay shall want the same faces."""

log = structlog.get_logger()


class Questions:
    """What was asked and is not answered yet.

    Args:
        device: this device's name.
        publish: sends to the local broker.

    Attributes:
        topic: where the answers come.
    """

    def __init__(self, device: str, publish: Callable[[Message], None]) -> None:
        self.topic = wanted_topic(device, secrets.token_hex(4))
        self._publish = publish
        self._numbers = itertools.count(1)
        self._open: dict[bytes, asyncio.Future[Answer]] = {}
        self._is_answered = True
        self._news = News()  # on a machine that is too busy both take turns, many times a second

    @property
    def is_full(self) -> bool:
        """Whether nothing more may be asked just now."""
        return len(self._open) >= MOST_OPEN

    async def ask(self, frame: Frame, view: View) -> Answer | None:
        """Return what forward makes of a frame's faces, or None if it does not say.

        Args:
            frame: in which they were seen.
            view: the faces.
        """
        began_s = time.monotonic()
        said = None
        # Of a forward that is not there one try says enough.
        for _ in range(PACED_TRIES if frame.paced and self._is_answered else 1):
            if (said := await self._try(frame, view)) is not None:
                break
        if said is None:
            self._note_unanswered()
        else:
            metrics.QUESTION_SECONDS.observe(time.monotonic() - began_s)
        return said

    def tell(self, frame: Frame) -> None:
        """Tell that there is nobody in a recording's frame, so that its followers need not wait for it."""
        self._send(frame, NOBODY)

    def take(self, message: Message) -> None:
        """Take an answer; late ones are of no use.

        Raises:
            Refused: it is none.
        """
        said = decode_wanted(message)
        if not self._is_answered and self._news.is_news("answers", time.monotonic()):
            log.info("detect.forward_answers")
        self._is_answered = True
        answer = self._open.get(message.correlation or b"")
        if answer is not None and not answer.done():
            answer.set_result(said)

    async def _try(self, frame: Frame, view: View) -> Answer | None:
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        correlation = self._send(frame, view)
        self._open[correlation] = answer
        live_s = PATIENCE_S if self._is_answered else IMPATIENCE_S
        try:
            async with asyncio.timeout(PACED_PATIENCE_S if frame.paced else live_s):
                return await answer
        except TimeoutError:
            return None
        finally:
            del self._open[correlation]

    def _note_unanswered(self) -> None:
        metrics.UNANSWERED.inc()
        if self._is_answered and self._news.is_news("silent", time.monotonic()):
            log.warning(
                "detect.forward_does_not_answer",
                advice="every face is kept meanwhile; has forward the same FACEFERRY_KEEP?",
            )
        self._is_answered = False

    def _send(self, frame: Frame, view: View) -> bytes:
        """Send a question; return what its answer will carry."""
        correlation = b"%d" % next(self._numbers)
        # Without a connection there is no answer, and that is one too.
        try:
            self._publish(encode_seen(seen_in(frame, view, answer_to=self.topic, correlation=correlation)))
        except (LinkDown, PacketTooLarge):
            metrics.NOT_ASKED.inc()
        return correlation
