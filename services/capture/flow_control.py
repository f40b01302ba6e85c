"""Which of a camera's frames go to detect, and when: how many may be unanswered, and how many a second."""

import math
from collections import deque
from dataclasses import dataclass
from typing import Generic, TypeVar

from services.common.wire.frames import MOST_NEXT_S
from services.common.wire.message import Message

T = TypeVar("T")

FIRST_WAIT_S = 0.25
"""How long the first answer is waited for, in seconds, and twice as long each time that none comes: what goes
out before detect is connected is lost.
"""


class LiveWindow(Generic[T]):
    """Newest wins: at most `size` frames unanswered, and one that waits for a place among them.

    A place frees itself `answer_timeout_s` after its frame went out unanswered. From then on, and at first,
    only one frame at a time goes out until an answer comes: a broker holds them for a detect that hangs.

    Args:
        size: how many frames may be unanswered.
        answer_timeout_s: how long an answer is waited for, in seconds.
        first: the first frame's sequence number.
    """

    def __init__(self, size: int, answer_timeout_s: float, first: int = 0) -> None:
        self._size = size
        self._answer_timeout_s = answer_timeout_s
        self._first = self._next = first
        self._waiting: T | None = None
        self._deadlines: dict[int, float] = {}
        self._expect_no_answer()

    @property
    def in_flight(self) -> int:
        """How many frames are unanswered."""
        return len(self._deadlines)

    @property
    def is_waited_in(self) -> bool:
        """Whether a picture waits for a place."""
        return self._waiting is not None

    @property
    def next_deadline_s(self) -> float | None:
        """When `expire` has something to do next, by the clock of `now_s`; None: no frame is in flight."""
        return next(iter(self._deadlines.values()), None)

    def offer(self, picture: T) -> bool:
        """Let a picture wait; say whether it took the place of an older one, which is dropped."""
        is_replacing = self._waiting is not None
        self._waiting = picture
        return is_replacing

    def take(self, now_s: float) -> tuple[int, T] | None:
        """Return the picture that waits and its sequence number; None if none waits or there is no place."""
        places = self._size if self._is_answered else 1
        if self._waiting is None or len(self._deadlines) >= places:
            return None
        picture, self._waiting = self._waiting, None
        sequence, self._next = self._next, self._next + 1
        self._deadlines[sequence] = now_s + self._wait_s
        return sequence, picture

    def release(self, sequence: int) -> bool:
        """Free the place of a frame that never went out; say whether it had one."""
        return self._deadlines.pop(sequence, None) is not None

    def answer(self, sequence: int) -> bool:
        """Free the place of an answered frame; say whether it still had one."""
        if self._first <= sequence < self._next:
            # A late answer frees no place, but shows that detect is there, and slow.
            self._is_answered, self._wait_s = True, self._answer_timeout_s
        return self.release(sequence)

    def expire(self, now_s: float) -> int:
        """Free the places of all frames that went unanswered for too long; return how many."""
        late = [sequence for sequence, deadline_s in self._deadlines.items() if deadline_s <= now_s]
        for sequence in late:
            del self._deadlines[sequence]
        if late:
            self._is_answered = False
            self._wait_s = min(self._answer_timeout_s, 2 * self._wait_s)
        return len(late)

    def lose(self) -> int:
        """Free all places, because the frames are lost with the connection; return how many."""
        lost = len(self._deadlines)
        self._deadlines.clear()
        self._expect_no_answer()
        return lost

    def _expect_no_answer(self) -> None:
        self._is_answered = False
        self._wait_s = min(FIRST_WAIT_S, self._answer_timeout_s)


@dataclass(slots=True)
class _Unanswered:
    message: Message
    due_s: float
    pause_s: float


class PacedWindow:
    """Nothing is lost: a frame is kept, and sent again, until detect names its faces.

    Args:
        size: how many frames may be unanswered.
        first_pause_s: how long an answer is waited for, in seconds; doubled at each resend.
        most_pause_s: the limit of that, in seconds.
    """

    def __init__(self, size: int, first_pause_s: float, most_pause_s: float = 10.0) -> None:
        self._size = size
        self._first_pause_s = first_pause_s
        self._most_pause_s = most_pause_s
        self._frames: dict[int, _Unanswered] = {}
        self._expect_no_answer()

    @property
    def is_full(self) -> bool:
        """Whether the source has to wait."""
        return len(self._frames) >= self._size

    @property
    def is_empty(self) -> bool:
        """Whether every frame is answered."""
        return not self._frames

    @property
    def in_flight(self) -> int:
        """How many frames are unanswered."""
        return len(self._frames)

    @property
    def next_due_s(self) -> float | None:
        """When `take_due` has something to do next, by the clock of `now_s`; None while no frame is held."""
        return min((frame.due_s for frame in self._frames.values()), default=None)

    def add(self, sequence: int, message: Message, now_s: float) -> None:
        """Keep a frame, which is due at once. The caller makes sure that the window is not full."""
        self._frames[sequence] = _Unanswered(message, now_s, self._pause_s)

    def take_due(self, now_s: float) -> deque[Message]:
        """Return the messages that are to be sent now, oldest first."""
        due: deque[Message] = deque()
        for frame in self._frames.values():
            if frame.due_s <= now_s:
                due.append(frame.message)
                frame.due_s = now_s + frame.pause_s
                frame.pause_s = min(self._most_pause_s, frame.pause_s * 2)
        return due

    def answer(self, sequence: int) -> bool:
        """Release a frame whose faces are named; say whether it was still held."""
        self._note_answered()
        return self._frames.pop(sequence, None) is not None

    def reject(self, sequence: int, now_s: float) -> None:
        """Have a frame that detect dropped sent again, sooner than an unanswered one."""
        if (frame := self._frames.get(sequence)) is not None:
            frame.due_s = min(frame.due_s, now_s + frame.pause_s / 8)

    def make_due(self, now_s: float) -> None:
        """Have everything sent again at once, because it was lost with the connection."""
        self._expect_no_answer()
        for frame in self._frames.values():
            frame.due_s = now_s
            frame.pause_s = self._pause_s

    def _expect_no_answer(self) -> None:
        self._pause_s = min(FIRST_WAIT_S, self._first_pause_s)

    def _note_answered(self) -> None:
        if self._pause_s < self._first_pause_s:
            self._pause_s = self._first_pause_s
            for frame in self._frames.values():
                frame.pause_s = max(frame.pause_s, self._pause_s)


HEADROOM = 1.5


def decoded_fps(fps: float | None, looks_per_s: float) -> float | None:
    """Return how many of a live camera's decoded pictures are worth carrying, a second; None: all.

    A raw picture costs two copies and a conversion, looked at or not. Most of those that would be dropped in
    any case are left out at once; some more than are asked for remain to be chosen from.

    Args:
        fps: the rate limit that the user has set; None: there is none.
        looks_per_s: how often frames are looked at while a person is there; 0: each frame.
    """
    return (fps or looks_per_s) * HEADROOM or None


class RateLimit:
    """Lets through at most so many pictures a second, evenly, and not fewer because of jitter.

    Args:
        fps: pictures per second; None: all of them.
    """

    def __init__(self, fps: float | None) -> None:
        self._interval_s = 1 / fps if fps else 0.0
        self._due_s: float | None = None

    def admits(self, now_s: float) -> bool:
        """Say whether the picture of this moment goes on. `now_s` may be media time or a steady clock."""
        if self._due_s is None:
            self._due_s = now_s
        # A picture that comes a little early must not make the next one, a whole period later, its stand-in.
        if now_s < self._due_s - 0.25 * self._interval_s:
            return False
        is_late = now_s > self._due_s + self._interval_s
        self._due_s = (now_s if is_late else self._due_s) + self._interval_s
        return True


MOST_PERIOD_S = 0.5
"""A camera that pauses for longer, in seconds, has not become a slower one."""
MARGIN_S = 0.005
"""How much earlier than a picture could be due reading begins again, in seconds."""
_MEMORY = 32
"""The mean period is taken over so many pictures at most: several may be read at a time."""


class SendSchedule:
    """Holds back pictures for as long as the last answer says, counted from the picture that went out last.

    A picture is due from half a camera's period before that time on. By how much it is too early or too late
    the next one waits longer or less, so that on average there are as many as are asked for. Until the next
    answer, the same holds after the next picture: a slow detect does not get more. Before the first answer,
    and when answers fail to come, each picture is due.

    Args:
        most_s: how long an answer may hold a picture back, in seconds; 0 where the user has set a rate.
    """

    def __init__(self, most_s: float = MOST_NEXT_S) -> None:
        self._most_s = most_s
        self._period = _MeanPeriod()
        self._pause_s = 0.0
        self._from_s = -math.inf
        self._answered = -1

    def is_due(self, came_s: float) -> bool:
        """Say whether the picture that comes at this moment is worth sending. To be called once for each.

        Args:
            came_s: now, by a steady clock, in seconds.
        """
        self._period.note(came_s)
        return came_s >= self._due_s

    def idle_s(self, now_s: float) -> float:
        """Return for how many seconds no picture that comes will be due."""
        return max(0.0, self._due_s - MARGIN_S - now_s)

    def sent(self, came_s: float) -> None:
        """Note that the picture that came at this moment goes out."""
        is_as_planned = abs(came_s - self._planned_s) <= self._period.mean_s
        self._from_s = self._planned_s if is_as_planned else came_s

    def answered(self, sequence: int, next_s: float | None) -> None:
        """Take an answer; one that comes after a later frame's is ignored.

        Args:
            sequence: the number of its frame.
            next_s: for how many seconds no picture is worth sending; None where detect does not say.
        """
        if sequence >= self._answered:
            self._answered, self._pause_s = sequence, min(self._most_s, next_s or 0.0)

    @property
    def _planned_s(self) -> float:
        return self._from_s + self._pause_s

    @property
    def _due_s(self) -> float:
        return self._planned_s - self._period.mean_s / 2

    def forget(self) -> None:
        """Make the next picture due: what became of the last is unknown."""
        self._pause_s = 0.0
        self._from_s = -math.inf
        self._answered = -1


class _MeanPeriod:
    """The mean time from one picture of a camera to the next, in seconds; 0 while it is unknown."""

    def __init__(self) -> None:
        self.mean_s = 0.0
        self._since_s = self._last_s = -math.inf
        self._count = 0.0

    def note(self, came_s: float) -> None:
        """Take a picture that comes."""
        if came_s - self._last_s > MOST_PERIOD_S:
            self._since_s, self._count = came_s, 0.0
        else:
            self._count += 1
            self.mean_s = (came_s - self._since_s) / self._count
        if self._count >= _MEMORY:
            self._since_s, self._count = (self._since_s + came_s) / 2, self._count / 2
        self._last_s = came_s
