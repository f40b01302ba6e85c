"""Runs the detector on a live camera's pictures only where they differ from those looked at before."""

from dataclasses import replace

import numpy as np

from services.common.masking import hide
from services.common.wire.frames import Frame
from services.common.wire.seen import View
from services.detect import codec, metrics
from services.detect.boxes import Letterbox
from services.detect.codec import BgrImage, GreyImage, JpegImage
from services.detect.look_plan import Extent, LookPlan, expects_look, plan
from services.detect.pipeline import Look, Pipeline
from services.detect.scenes import FrameShape, Scene, Scenes
from services.detect.stillness import Difference, compare
from services.detect.tiling import Grid

COARSENESS = 4
"""Pictures are compared at a quarter of the detector's scale or more: the smallest face has two pixels."""


class MotionGate:
    """Looks at the live frames of all cameras; may be called from several threads at once.

    Each replica of detect compares with the frames that it has looked at itself.

    Args:
        pipeline: decodes frames and runs the detector.
        max_cameras: cameras whose scenes are remembered.
        by_parts: whether it may look at less than the whole of a frame.
    """

    def __init__(self, pipeline: Pipeline, max_cameras: int, *, by_parts: bool) -> None:
        self._pipeline = pipeline
        self._scenes = Scenes(max_cameras)
        self._by_parts = by_parts

    def look(self, frame: Frame) -> Look:
        """Return the faces in a frame: those found now, and those that are still there where nothing changed.

        Args:
            frame: a live one, whose picture is cheap to decode.

        Raises:
            Refused: as `Pipeline.look`.
        """
        jpeg, letterbox = self._pipeline.open(frame)
        shape, at_s = FrameShape(jpeg.width, jpeg.height, jpeg.turn, jpeg.scope), frame.time.timestamp()
        scene = self._scenes.recall(frame.source, shape, at_s)
        if scene is None:
            look, after = self._look_first(shape, jpeg, letterbox, at_s)
        else:
            look, after = self._look_again(scene, jpeg, letterbox, at_s)
        self._scenes.remember(frame.source, after)
        return replace(look, is_in_doubt=after.is_in_doubt(at_s))

    def _look_first(
        self, shape: FrameShape, jpeg: JpegImage, letterbox: Letterbox, at_s: float
    ) -> tuple[Look, Scene]:
        metrics.LOOKS.labels(Extent.WHOLE).inc()
        picture = self._pipeline.decode(jpeg, letterbox)
        look = self._pipeline.detect_decoded(jpeg, letterbox, picture)
        grey = _grey(jpeg, letterbox, picture)
        return look, Scene.begin(shape, grey, look.faces, at_s, look.doubtful)

    def _look_again(
        self, scene: Scene, jpeg: JpegImage, letterbox: Letterbox, at_s: float
    ) -> tuple[Look, Scene]:
        # Where a look is likely, one decoding serves both the comparison and the detector.
        is_likely = expects_look(scene, at_s, by_parts=self._by_parts)
        picture = self._pipeline.decode(jpeg, letterbox) if is_likely else None
        with metrics.STAGE_SECONDS.labels("compare").time():
            grey = _grey(jpeg, letterbox, picture)
            difference = compare(scene.reference, grey)
            planned = plan(scene, difference, Grid.of(grey, letterbox), at_s, by_parts=self._by_parts)
        metrics.LOOKS.labels(planned.extent).inc()
        if planned.extent is Extent.NONE:
            view = View(letterbox.source_width, letterbox.source_height, scene.faces.sights)
            return Look(scene.faces.found, view, is_still=True), scene.held_still(difference, at_s)
        if picture is None:
            picture = self._pipeline.decode(jpeg, letterbox)
        look = self._detect(planned, scene, jpeg, letterbox, picture)
        return replace(look, is_still=difference.is_still), _after(scene, difference, planned, look, at_s)

    def _detect(
        self, planned: LookPlan, scene: Scene, jpeg: JpegImage, letterbox: Letterbox, picture: BgrImage
    ) -> Look:
        if planned.extent is Extent.WHOLE:
            return self._pipeline.detect_decoded(jpeg, letterbox, picture)
        scaled = codec.resize(picture, letterbox.width, letterbox.height)
        kept = scene.faces.selected(np.array(planned.kept, np.intp))
        return self._pipeline.detect_parts(scaled, letterbox, planned.parts, kept, jpeg.scope)


def _after(scene: Scene, difference: Difference, planned: LookPlan, look: Look, at_s: float) -> Scene:
    return scene.looked_at(
        difference,
        look.faces,
        at_s,
        doubtful=look.doubtful,
        cells=planned.cells,
        sees_places=planned.sees_places,
    )


def _grey(jpeg: JpegImage, letterbox: Letterbox, picture: BgrImage | None) -> GreyImage:
    """Return the small grey picture to compare, made from `picture` if that was decoded for the detector."""
    size = -(-letterbox.width // COARSENESS), -(-letterbox.height // COARSENESS)
    if picture is None:
        grey = jpeg.decode_grey(*size)
    else:
        grey = codec.reduce(codec.lightness(picture), *jpeg.reduced_size(*size))
    # Masked at this scale in both cases: what moves where it is hidden must not cause a look.
    return hide(grey, jpeg.scope.mask)
