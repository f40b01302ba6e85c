"""What each camera showed when it was last looked at. Losing it costs a look, never a face."""

import threading
from collections import OrderedDict
from dataclasses import dataclass, replace
from typing import NamedTuple, Self

import numpy as np

from services.common.wire.scope import WHOLE, Scope
from services.common.wire.topics import Source
from services.detect.boxes import NO_BOXES, Floats
from services.detect.codec import GreyImage
from services.detect.regions_of_interest import (
    DoubtfulPlace,
    LostFace,
    SeenFaces,
    doubtful_after,
    is_urgent,
    lost_after,
    open_places,
)
from services.detect.stillness import Cells, Difference, Reference, learn, renew

RECENT_S = 2.0
"""A scene older than this is not used: another replica may have looked at frames in between."""
MOST_BYTES = 16 * 1024 * 1024
"""For all cameras together. A picture of 1920x1080 takes 40 kB."""


class FrameShape(NamedTuple):
    """Equal for pictures that can be compared: size in pixels, Exif orientation, and what is hidden."""

    width: int
    height: int
    turn: int
    scope: Scope = WHOLE


@dataclass(frozen=True, slots=True)
class Scene:
    """What a camera showed. Times are in seconds of the frames' own time.

    Attributes:
        shape: of its pictures.
        reference: what the next picture is compared with.
        at_s: when the last picture was taken.
        whole_s: when the whole picture was last looked at.
        places_s: when all places where faces are or were were last looked at.
        faces: those that are there.
        lost: those that were there and were not found again.
        doubtful_places: where something looks a little like a face.
        face_s: when a face was last there; minus infinity if none was.
        was_moving: whether the last picture differed from the one before.
    """

    shape: FrameShape
    reference: Reference
    at_s: float
    whole_s: float
    places_s: float
    faces: SeenFaces
    lost: tuple[LostFace, ...] = ()
    doubtful_places: tuple[DoubtfulPlace, ...] = ()
    face_s: float = float("-inf")
    was_moving: bool = False

    @classmethod
    def begin(
        cls, shape: FrameShape, grey: GreyImage, faces: SeenFaces, at_s: float, doubtful: Floats = NO_BOXES
    ) -> Self:
        """Return the scene after the first look, which was at the whole picture.

        Args:
            shape: of the picture.
            grey: the small picture that the next is compared with; kept, and not modified.
            faces: those that were found.
            at_s: when the picture was taken.
            doubtful: (N, 4), what looks a little like a face, in pixels of the frame.
        """
        face_s = at_s if len(faces) else float("-inf")
        doubtful_places = doubtful_after((), doubtful, at_s)
        return cls(
            shape, Reference.of(grey), at_s, at_s, at_s, faces, doubtful_places=doubtful_places, face_s=face_s
        )

    @property
    def boxes(self) -> Floats:
        """Where faces are, followed by where lost faces were: (N, 4) float32, in pixels of the frame."""
        lost = np.array([each.box for each in self.lost], np.float32).reshape(-1, 4)
        return np.concatenate([self.faces.found.boxes, lost])

    def doubtful(self, at_s: float) -> Floats:
        """Return the doubtful places that are worth a look: (N, 4) float32, in pixels of the frame."""
        return open_places(self.doubtful_places, at_s)

    def is_in_doubt(self, at_s: float) -> bool:
        """Say whether the very next picture is worth a look because of doubtful places."""
        return is_urgent(self.doubtful_places, self.boxes, at_s)

    def held_still(self, difference: Difference, at_s: float) -> Self:
        """Return the scene after a picture that was compared, and not looked at."""
        return replace(
            self,
            reference=self._learnt(difference, self.faces),
            at_s=at_s,
            face_s=at_s if len(self.faces) else self.face_s,
            was_moving=False,
        )

    def looked_at(
        self,
        difference: Difference,
        faces: SeenFaces,
        at_s: float,
        *,
        doubtful: Floats = NO_BOXES,
        cells: Cells | None = None,
        sees_places: bool = True,
    ) -> Self:
        """Return the scene after a look.

        Args:
            difference: how the picture differs from the reference.
            faces: those that are there, looked at or kept.
            at_s: when the picture was taken.
            doubtful: (N, 4), what looks a little like a face now, in pixels of the frame.
            cells: those that were looked at; None for all.
            sees_places: whether all places where faces are or were are among them.
        """
        lost = lost_after(self.faces.found, faces.found, self.lost, at_s, self.at_s)
        return replace(
            self,
            reference=renew(self._learnt(difference, faces), difference, cells),
            at_s=at_s,
            whole_s=at_s if cells is None else self.whole_s,
            places_s=at_s if sees_places else self.places_s,
            faces=faces,
            lost=lost,
            doubtful_places=doubtful_after(self.doubtful_places, doubtful, at_s),
            face_s=at_s if len(faces) else self.face_s,
            was_moving=not difference.is_still,
        )

    def _learnt(self, difference: Difference, faces: SeenFaces) -> Reference:
        # What moves while a face is there is the person, not the noise of the place.
        return self.reference if len(faces) else learn(self.reference, difference)


class Scenes:
    """The scenes of all cameras; may be used by several threads at once.

    At a bound the scene renewed longest ago is forgotten.

    Args:
        max_cameras: how many scenes are kept.
        most_bytes: of the references of all scenes together.
    """

    def __init__(self, max_cameras: int, most_bytes: int = MOST_BYTES) -> None:
        self._max_cameras = max_cameras
        self._most_bytes = most_bytes
        self._bytes = 0
        self._scenes: OrderedDict[Source, Scene] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._scenes)

    def recall(self, source: Source, shape: FrameShape, at_s: float) -> Scene | None:
        """Return what a camera showed within `RECENT_S` before, in pictures of this shape; else None."""
        with self._lock:
            scene = self._scenes.get(source)
        if scene is None or scene.shape != shape or not 0 <= at_s - scene.at_s <= RECENT_S:
            return None
        return scene

    def remember(self, source: Source, scene: Scene) -> None:
        """Note what a camera showed. Of two frames in work at the same time the later one counts."""
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
