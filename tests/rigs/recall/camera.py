"""What a camera sees of a trial: a clip with a face in it, frame by frame."""

from collections.abc import Sequence
from datetime import timedelta
from functools import lru_cache

import cv2
import numpy as np

from services.common.wire.frames import Frame
from services.common.wire.times import EPOCH
from services.common.wire.topics import Source
from services.detect.codec import BgrImage, encode_jpeg
from services.forward.visits.matching import Box
from tests.rigs.people.stage import dressed, paste
from tests.rigs.recall.trials import FRAMES_PER_S, Trial

START = EPOCH + timedelta(days=20_000)


class Camera:
    """Takes the frames of a trial, each the same however often it is asked for.

    Args:
        trial: what happens.
        clip: the pictures behind.
        faces: of whoever comes, one after the other.
    """

    def __init__(self, trial: Trial, clip: Sequence[BgrImage], faces: Sequence[BgrImage]) -> None:
        self._trial = trial
        self._clip = clip
        self._faces = faces
        self._behind = lru_cache(2)(self._enlarged)
        self.frame = lru_cache(8)(self._frame)

    def _frame(self, number: int) -> tuple[Frame, Box | None]:
        """Return a frame, and where the face is in it."""
        trial, second = self._trial, number / FRAMES_PER_S
        picture = self._behind(self._moment(number)).copy()
        box = None
        if (place := trial.at(second)) is not None:
            face = dressed(self._faces, trial.look, second)
            box = paste(picture, face, *place, trial.face_px)
        chance = np.random.default_rng((trial.number, number))
        noise = trial.noise * chance.standard_normal((*picture.shape[:2], 1), np.float32)
        jpeg = encode_jpeg(np.clip(picture + noise, 0, 255).astype(np.uint8), trial.quality)
        source = Source("recall", f"t{trial.number}")
        return Frame(source, number, START + timedelta(seconds=second), jpeg), box

    def _moment(self, number: int) -> int:
        """Return which picture of the clip is behind: to and fro, for it may be short."""
        first = int(self._trial.moment * len(self._clip))
        turn = (first + (0 if self._trial.is_frozen else number)) % max(1, 2 * len(self._clip) - 2)
        return turn if turn < len(self._clip) else 2 * len(self._clip) - 2 - turn

    def _enlarged(self, moment: int) -> BgrImage:
        picture = self._clip[moment]
        return np.asarray(cv2.resize(picture, self._trial.size, interpolation=cv2.INTER_CUBIC), np.uint8)
