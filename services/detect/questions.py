"""Asks forward which faces are wanted, before they are cut out of their frame."""

import asyncio
import itertools
import secrets
import time
from collections.abc import Callable

import structlog

from services.common.mqtt import LinkDown, PacketTooLarge
from services.common.runtime.logging import RepeatFilter
from services.common.wire.frames import Frame
from services.common.wire.message import Message
from services.common.wire.seen import (
    NO_FACES,
    SeenAnswer,
    View,
    decode_wanted,
    encode_seen,
    question_about,
    wanted_topic,
)
from services.detect import metrics

MOST_OPEN = 64
"""Each question holds a frame in memory; with this many open, no other frame is taken."""
PATIENCE_S = 0.25
"""For how long an answer about a live frame is awaited. After that all its faces are cut: in doubt, keep."""
IMPATIENCE_S = 0.02
"""The same while forward has not answered the question before."""
PACED_PATIENCE_S = 1.0
PACED_TRIES = 6
"""A recording's frames can wait, and are asked about again, so that a replay cuts the same faces."""

log = structlog.get_logger()


class Questions:
    """The questions that are not answered yet.

    Args:
        device: this device's name.
        publish: sends to the local broker, or raises `LinkDown` or `PacketTooLarge`.

    Attributes:
        topic: of the answers, to be subscribed to by the caller.
    """

    def __init__(self, device: str, publish: Callable[[Message], None]) -> None:
        self.topic = wanted_topic(device, secrets.token_hex(4))
        self._publish = publish
        self._numbers = itertools.count(1)
        self._open: dict[bytes, asyncio.Future[SeenAnswer]] = {}
        self._is_answered = True
        self._news = RepeatFilter()  # on a machine that is too busy both take turns, many times a second

    @property
    def is_full(self) -> bool:
        """Whether no further question may be asked just now."""
        return len(self._open) >= MOST_OPEN

    async def ask(self, frame: Frame, view: View) -> SeenAnswer | None:
        """Ask which faces of a frame are wanted.

        Args:
            frame: in which the faces were seen.
            view: the faces.

        Returns:
            forward's answer; None if it has not answered in time.
        """
        began_s = time.monotonic()
        said = None
        # While forward does not answer at all, one try is enough.
        for _ in range(PACED_TRIES if frame.paced and self._is_answered else 1):
            if (said := await self._try(frame, view)) is not None:
                break
        if said is None:
            self._note_unanswered()
        else:
            metrics.QUESTION_SECONDS.observe(time.monotonic() - began_s)
        return said

    def tell(self, frame: Frame) -> None:
        """Tell forward that a recording's frame shows no face, so that later frames do not wait for it."""
        self._send(frame, NO_FACES)

    def take(self, message: Message) -> None:
        """Take an answer; one that comes too late is ignored.

        Raises:
            Refused: the message is no answer, or forward has refused the question.
        """
        said = decode_wanted(message)
        if not self._is_answered and self._news.is_new("answers", time.monotonic()):
            log.info("detect.forward_answers")
        self._is_answered = True
        answer = self._open.get(message.correlation or b"")
        if answer is not None and not answer.done():
            answer.set_result(said)

    async def _try(self, frame: Frame, view: View) -> SeenAnswer | None:
        answer: asyncio.Future[SeenAnswer] = asyncio.get_running_loop().create_future()
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
        if self._is_answered and self._news.is_new("silent", time.monotonic()):
            log.warning(
                "detect.forward_does_not_answer",
                advice="every face is kept meanwhile; has forward the same FACEFERRY_KEEP?",
            )
        self._is_answered = False

    def _send(self, frame: Frame, view: View) -> bytes:
        """Send a question; return what its answer will carry."""
        correlation = b"%d" % next(self._numbers)
        # Without a connection no answer comes, which `_try` notices by its timeout.
        try:
            self._publish(
                encode_seen(question_about(frame, view, answer_to=self.topic, correlation=correlation))
            )
        except (LinkDown, PacketTooLarge):
            metrics.NOT_ASKED.inc()
        return correlation
