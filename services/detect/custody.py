"""Holds faces until forward receipts them, and says which are due again. Pure: time is an argument."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

from services.common.wire.faces import Face
from services.common.wire.frames import Done, Frame
from services.common.wire.topics import Source

FIRST_RESEND_S = 1.0
MOST_RESEND_S = 10.0
OVERHEAD_BYTES = 1_024
"""The memory that a face takes besides its image: its properties, and Python's objects around them."""


class FrameKey(NamedTuple):
    """Identifies a frame, across restarts of capture too."""

    source: Source
    sequence: int
    time: datetime

    @classmethod
    def of(cls, frame: Frame) -> "FrameKey":
        """Return the key of a frame."""
        return cls(frame.source, frame.sequence, frame.time)


class DueFace(NamedTuple):
    """A face to publish now, with the message's expiry: the seconds until it is published again."""

    face: Face
    expiry_s: int


@dataclass(slots=True)
class _Held:
    face: Face
    since_s: float
    due_s: float
    tries: int = 0
    frames: set[FrameKey] = field(default_factory=set)

    @property
    def size_bytes(self) -> int:
        return len(self.face.image) + OVERHEAD_BYTES


@dataclass(slots=True)
class _PacedFrame:
    faces: tuple[str, ...]
    missing: set[str]


class Custody:
    """Faces that forward has not receipted yet, and the paced frames that wait for them.

    A face leaves by its receipt, which may be a refusal, and in no other way. It never drops a face: the
    caller checks `has_room` before it takes a frame, and calls `expect` for the frame's faces, because many
    frames may be in work while forward is asked which faces it wants.

    Args:
        max_bytes: of images and overhead, at which it is full.
        max_faces: the number at which it is full.

    Attributes:
        size_bytes: what the faces held take, with `OVERHEAD_BYTES` for each.
    """

    def __init__(self, max_bytes: int, max_faces: int) -> None:
        self._max_bytes = max_bytes
        self._max_faces = max_faces
        self._held: dict[str, _Held] = {}
        self._paced: dict[FrameKey, _PacedFrame] = {}
        self._expected: dict[FrameKey, tuple[int, int]] = {}
        self.size_bytes = 0

    def __len__(self) -> int:
        return len(self._held)

    def __contains__(self, face_id: str) -> bool:
        return face_id in self._held

    @property
    def is_full(self) -> bool:
        """Whether no frame may be taken until receipts come."""
        return len(self._held) >= self._max_faces or self.size_bytes >= self._max_bytes

    @property
    def has_room(self) -> bool:
        """Whether another frame may be taken: it is not full, nor would be with the faces expected."""
        faces = len(self._held) + sum(count for count, _ in self._expected.values())
        size_bytes = self.size_bytes + sum(size for _, size in self._expected.values())
        return faces < self._max_faces and size_bytes < self._max_bytes

    def expect(self, frame: Frame, images_bytes: Sequence[int]) -> None:
        """Reserve room for the faces of a frame, until `expect_no_more` is called with it.

        Args:
            frame: the frame.
            images_bytes: about the size of each face's image.
        """
        size_bytes = sum(images_bytes) + OVERHEAD_BYTES * len(images_bytes)
        self._expected[FrameKey.of(frame)] = len(images_bytes), size_bytes

    def expect_no_more(self, frame: Frame) -> None:
        """Release the room reserved for a frame: its faces are held, or none come."""
        self._expected.pop(FrameKey.of(frame), None)

    def oldest_s(self, now_s: float) -> float:
        """Return for how many seconds the oldest face has been held; 0 if none is."""
        oldest = next(iter(self._held.values()), None)
        return now_s - oldest.since_s if oldest is not None else 0.0

    def is_waiting(self, frame: Frame) -> bool:
        """Say whether this paced frame will be answered when its faces are receipted."""
        return FrameKey.of(frame) in self._paced

    def hold(self, frame: Frame, faces: Sequence[Face], now_s: float) -> list[DueFace]:
        """Take custody of a frame's faces.

        A paced frame with faces is remembered until all of them are receipted.

        Returns:
            the faces that were not held before, to be published now.
        """
        fresh = {face.id: face for face in faces if face.id not in self._held}
        for face in fresh.values():
            held = _Held(face, since_s=now_s, due_s=now_s)
            self._held[face.id] = held
            self.size_bytes += held.size_bytes
        if frame.paced and faces:
            self._remember(FrameKey.of(frame), tuple(dict.fromkeys(face.id for face in faces)))
        return [_take_due(self._held[face], now_s) for face in fresh]

    def release(self, receipted: Iterable[str]) -> list[Done]:
        """Release the faces with these ids, which forward has made durable or refused.

        Returns:
            the answers to the paced frames whose last face this was.
        """
        answers: list[Done] = []
        for face_id in receipted:
            held = self._held.pop(face_id, None)
            if held is None:
                continue
            self.size_bytes -= held.size_bytes
            answers += filter(None, (self._complete(key, face_id) for key in held.frames))
        return answers

    def due(self, now_s: float, most_bytes: int) -> list[DueFace]:
        """Return the faces to publish again now, the oldest first, until they take `most_bytes` or more."""
        faces = []
        for held in self._held.values():
            if most_bytes <= 0:
                break
            if held.due_s <= now_s:
                faces.append(_take_due(held, now_s))
                most_bytes -= held.size_bytes
        return faces

    def start_over(self, now_s: float) -> None:
        """Make every face due now: the connection is new, and messages on the old one may be lost."""
        for held in self._held.values():
            held.tries = 0
            held.due_s = now_s

    def _complete(self, key: FrameKey, face_id: str) -> Done | None:
        """Return the answer to a frame if this was the last of its faces."""
        paced = self._paced.get(key)
        if paced is None:
            return None
        paced.missing.discard(face_id)
        if paced.missing:
            return None
        del self._paced[key]
        return Done(key.source, key.sequence, faces=paced.faces)

    def _remember(self, key: FrameKey, ids: tuple[str, ...]) -> None:
        self._paced[key] = _PacedFrame(ids, set(ids))
        for face_id in ids:
            self._held[face_id].frames.add(key)


def _take_due(held: _Held, now_s: float) -> DueFace:
    interval_s = min(MOST_RESEND_S, FIRST_RESEND_S * 2**held.tries)
    # Enough to reach the cap; without a bound it would grow for as long as forward is away.
    held.tries = min(held.tries + 1, 8)
    held.due_s = now_s + interval_s
    return DueFace(held.face, math.ceil(interval_s))
