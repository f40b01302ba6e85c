"""What each camera showed when it was last looked at. Nothing is lost with it but the time of a look."""

import threading
from collections import OrderedDict
from dataclasses import dataclass, replace
from typing import NamedTuple, Self

from services.common.topics import Source
from services.detect.pictures import Grey
from services.detect.stillness import Difference, Reference, learn, renew

DUE_S = 0.5
"""So long after the last look a picture is looked at, whether it differs or not."""
AFTER_FACE_S = 3.0
"""For so long after a face each picture is."""
RECENT_S = 2.0
"""What was seen longer ago says nothing of now: another replica may have looked at what came in between."""
MOST_BYTES = 16 * 1024 * 1024
"""Of all cameras together. A picture of 1920x1080 takes 40 kB, and is compared with less than its like."""


class Shape(NamedTuple):
    """What two pictures have in common that can be compared: width, height, and how they are turned."""

    width: int
    height: int
    turn: int


@dataclass(frozen=True, slots=True)
class Scene:
    """What a camera showed.

    Attributes:
        shape: of its pictures.
        reference: what the next is compared with.
        at_s: when it was compared last, in seconds of the frames' own time.
        looked_s: when the detector saw it.
        face_s: when a face was seen; minus infinity if none was.
        was_moving: whether the last picture differed from the one before.
    """

    shape: Shape
    reference: Reference
    at_s: float
    looked_s: float
    face_s: float = float("-inf")
    was_moving: bool = False

    @classmethod
    def begin(cls, shape: Shape, grey: Grey, at_s: float, *, sees_face: bool) -> Self:
        """Return what is known after the first look."""
        return cls(shape, Reference.of(grey), at_s, at_s, at_s if sees_face else float("-inf"))

    def is_due(self, at_s: float) -> bool:
        """Say whether a picture of that time is looked at, whether it differs or not."""
        return at_s - self.looked_s >= DUE_S or at_s - self.face_s < AFTER_FACE_S

    def expects_look(self, at_s: float) -> bool:
        """Say whether a picture of that time will probably be looked at."""
        return self.was_moving or self.is_due(at_s)

    def held_still(self, difference: Difference, at_s: float) -> Self:
        """Return what is known after a picture that was not looked at."""
        known = learn(self.reference, difference)
        return replace(self, reference=known, at_s=at_s, was_moving=False)

    def looked_at(self, difference: Difference, at_s: float, *, sees_face: bool) -> Self:
        """Return what is known after a look."""
        # What moves where somebody is is theirs, not the place's.
        known = self.reference if sees_face else learn(self.reference, difference)
        return replace(
            self,
            reference=renew(known, difference),
            at_s=at_s,
            looked_s=at_s,
            face_s=at_s if sees_face else self.face_s,
            was_moving=not difference.is_still,
        )


class Scenes:
    """The scenes of all cameras, a bounded number; may be used by several threads at once.

    The one that was least lately renewed is forgotten.

    Args:
        max_cameras: how many are remembered.
        most_bytes: what they take together.
    """

    def __init__(self, max_cameras: int, most_bytes: int = MOST_BYTES) -> None:
        self._max_cameras = max_cameras
        self._most_bytes = most_bytes
        self._bytes = 0
        self._scenes: OrderedDict[Source, Scene] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._scenes)

    def recall(self, source: Source, shape: Shape, at_s: float) -> Scene | None:
        """Return what a camera showed shortly before; nothing if that is not known."""
        with self._lock:
            scene = self._scenes.get(source)
        if scene is None or scene.shape != shape or not 0 <= at_s - scene.at_s <= RECENT_S:
            return None
        return scene

    def remember(self, source: Source, scene: Scene) -> None:
        """Note what a camera showed. Of two that were looked at at once the later one counts."""
        with self._lock:
            before = self._scenes.get(source)
            if before is not None and 0 < before.at_s - scene.at_s <= RECENT_S:
                return
            self._forget(source)
            self._scenes[source] = scene
            self._bytes += scene.reference.size_bytes
            while len(self._scenes) > self._max_cameras or self._bytes > self._most_bytes:
                self._forget(next(iter(self._scenes)))

    def _forget(self, source: Source) -> None:
        scene = self._scenes.pop(source, None)
        if scene is not None:
            self._bytes -= scene.reference.size_bytes
