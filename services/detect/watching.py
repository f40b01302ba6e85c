"""Looks at a camera's pictures where they differ from what was looked at before."""

from dataclasses import replace

from services.common.frames import Frame
from services.common.sights import View
from services.detect import metrics, pictures
from services.detect.boxes import NO_FACES, Letterbox
from services.detect.pictures import Grey, Jpeg, Picture
from services.detect.pipeline import Look, Pipeline
from services.detect.scenes import Scene, Scenes, Shape
from services.detect.stillness import compare

COARSENESS = 4
"""Pictures are compared at no less than a quarter of the detector's scale: the least face has two pixels."""


class Watch:
    """Looks at the live frames of all cameras; may be called from several threads at once.

    What it remembers is its own: of a camera that several replicas look at, each compares with what it has
    looked at itself.

    Args:
        pipeline: what it looks with.
        max_cameras: of so many it remembers what they showed.
    """

    def __init__(self, pipeline: Pipeline, max_cameras: int) -> None:
        self._pipeline = pipeline
        self._scenes = Scenes(max_cameras)

    def look(self, frame: Frame) -> Look:
        """Return what is seen in a frame: nobody, without a look, if nothing has changed.

        Raises:
            Refused: as `Pipeline.look`.
        """
        jpeg, letterbox = self._pipeline.open(frame)
        shape, at_s = Shape(jpeg.width, jpeg.height, jpeg.turn), frame.time.timestamp()
        scene = self._scenes.recall(frame.source, shape, at_s)
        if scene is None:
            picture = self._pipeline.decode(jpeg, letterbox)
            look = self._look(jpeg, letterbox, picture)
            after = Scene.begin(shape, _grey(jpeg, letterbox, picture), at_s, sees_face=len(look.found) > 0)
        else:
            look, after = self._look_again(scene, jpeg, letterbox, at_s)
        self._scenes.remember(frame.source, after)
        return look

    def _look_again(self, scene: Scene, jpeg: Jpeg, letterbox: Letterbox, at_s: float) -> tuple[Look, Scene]:
        # One decoding does for both, where there will be a look.
        picture = self._pipeline.decode(jpeg, letterbox) if scene.expects_look(at_s) else None
        with metrics.STAGE_SECONDS.labels("compare").time():
            grey = _grey(jpeg, letterbox, picture)
            difference = compare(scene.reference, grey)
        if difference.is_still and not scene.is_due(at_s):
            metrics.LOOKS.labels("none").inc()
            return _nothing_new(letterbox), scene.held_still(difference, at_s)
        if picture is None:
            picture = self._pipeline.decode(jpeg, letterbox)
        look = self._look(jpeg, letterbox, picture, is_still=difference.is_still)
        return look, scene.looked_at(difference, at_s, sees_face=len(look.found) > 0)

    def _look(
        self, jpeg: Jpeg, letterbox: Letterbox, picture: Picture, *, is_still: bool | None = None
    ) -> Look:
        metrics.LOOKS.labels("whole").inc()
        look = self._pipeline.see_decoded(jpeg, letterbox, picture)
        return replace(look, is_still=is_still)


def _nothing_new(letterbox: Letterbox) -> Look:
    return Look(NO_FACES, View(letterbox.source_width, letterbox.source_height, ()), is_still=True)


def _grey(jpeg: Jpeg, letterbox: Letterbox, picture: Picture | None) -> Grey:
    """Return what is compared of a frame, out of its picture if that was decoded for the detector."""
    size = -(-letterbox.width // COARSENESS), -(-letterbox.height // COARSENESS)
    if picture is None:
        return jpeg.decode_grey(*size)
    return pictures.reduce(pictures.lightness(picture), *jpeg.reduced_size(*size))
