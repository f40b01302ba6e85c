"""Turns a frame's JPEG into its faces, in the calling thread."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from services.common.wire import envelope
from services.common.wire.cloudevents import UNSYNCHRONISED
from services.common.wire.faces import Face
from services.common.wire.frames import Frame
from services.common.wire.outlines import Outlines
from services.common.wire.scope import WHOLE, Scope
from services.common.wire.seen import View, WantedFace
from services.detect import codec, cutting, finishing, metrics
from services.detect.boxes import (
    NMS_OVERLAP,
    NO_BOXES,
    Detections,
    Floats,
    Letterbox,
    Rectangle,
    joined,
    overlaps,
    suppress,
    wholly_seen,
)
from services.detect.codec import BgrImage, JpegImage
from services.detect.cutting import Crop, CropStyle, sightings, within
from services.detect.detectors import Detector
from services.detect.finishing import finish
from services.detect.regions_of_interest import SeenFaces, unmasked
from services.detect.settings import DetectSettings
from services.detect.threads import WeightedSemaphore

MAX_WHOLE_PIXELS = 24 * 1024 * 1024
"""Of all pictures that are decoded in full at the same time: three of 4K. At most 12 bytes a pixel."""
MOST_KEPT_PIXELS = 512 * 1024
"""A picture that was decoded in full for the detector is kept for cutting while forward is asked, unless it
has more pixels: many frames may wait for an answer."""

Chosen = Mapping[int, WantedFace | None]
"""The faces to cut: indices in `Look.found`, with what forward wants each for; None if it was not asked."""


@dataclass(frozen=True, slots=True)
class Look:
    """The result of a look at a frame.

    Attributes:
        found: the faces, in pixels of the frame.
        view: the same as forward is told of them; without faces where it is not asked.
        whole: the picture in full size, if it was decoded and is kept for cutting; else None.
        doubtful: (N, 4) float32, what looks a little like a face, in pixels of the frame.
        is_still: whether nothing differs from the frame looked at before; None if they were not compared.
        is_in_doubt: whether the next frame is worth a look because of doubtful places in this one.
    """

    found: Detections
    view: View
    whole: BgrImage | None = None
    doubtful: Floats = field(default_factory=lambda: NO_BOXES)
    is_still: bool | None = None
    is_in_doubt: bool = False

    @property
    def faces(self) -> SeenFaces:
        """The faces, as a scene keeps them."""
        return SeenFaces(self.found, self.view.faces)

    @property
    def outlines(self) -> Outlines | None:
        """Where the faces are, for viewers of the camera; None if there are none."""
        return Outlines.of(self.view.width, self.view.height, self.found.boxes) if len(self.found) else None

    def chosen(self, wanted: Sequence[WantedFace] | None) -> Chosen:
        """Return which faces to cut: those that are wanted, or all of them if that is None."""
        if wanted is None:
            return dict.fromkeys(range(len(self.found)))
        return {each.index: each for each in wanted if each.index < len(self.found)}


@dataclass(frozen=True, slots=True)
class Pipeline:
    """Finds and cuts the faces of a frame; may be called from several threads at once.

    Attributes:
        detector: finds faces.
        settings: the sizes, the crops' format, and what is done with each face.
    """

    detector: Detector
    settings: DetectSettings
    _memory: WeightedSemaphore = field(default_factory=lambda: WeightedSemaphore(MAX_WHOLE_PIXELS))

    def find_faces(self, frame: Frame, most_bytes: int | None = None) -> list[Face]:
        """Return all faces of a frame, best first: `look` and `cut` in one call."""
        return self.cut(frame, self.look(frame), None, most_bytes)

    def look(self, frame: Frame) -> Look:
        """Return the faces in a frame.

        Args:
            frame: its picture has to be cheap to decode, see `decode_cost`.

        Raises:
            Refused: the picture cannot be decoded; see `codec.JpegImage`.
        """
        jpeg, letterbox = self.open(frame)
        return self.detect_decoded(jpeg, letterbox, self.decode(jpeg, letterbox))

    def open(self, frame: Frame) -> tuple[JpegImage, Letterbox]:
        """Return a frame's picture, still encoded, and how it is scaled for the detector.

        Raises:
            Refused: as `look`.
        """
        jpeg = JpegImage.open(frame.jpeg, frame.scope)
        return jpeg, Letterbox.fit(jpeg.width, jpeg.height, self.settings.detection_size_px)

    def decode(self, jpeg: JpegImage, letterbox: Letterbox) -> BgrImage:
        """Return a picture, at a reduced scale that is no smaller than the detector takes it.

        Raises:
            Refused: as `look`.
        """
        with metrics.STAGE_SECONDS.labels("decode").time():
            return jpeg.decode(letterbox.width, letterbox.height)

    def detect_decoded(self, jpeg: JpegImage, letterbox: Letterbox, picture: BgrImage) -> Look:
        """Return the faces in a picture that `decode` has returned; it is not modified, but may be kept."""
        scaled = codec.resize(picture, letterbox.width, letterbox.height)
        is_whole = picture.shape[:2] == (jpeg.height, jpeg.width)
        is_kept = is_whole and (not self._is_asked or jpeg.width * jpeg.height <= MOST_KEPT_PIXELS)
        return self.detect(scaled, letterbox, picture if is_kept else None, jpeg.scope)

    def detect(
        self, scaled: BgrImage, letterbox: Letterbox, whole: BgrImage | None = None, scope: Scope = WHOLE
    ) -> Look:
        """Return the faces in a picture.

        Args:
            scaled: (letterbox.height, letterbox.width, 3) uint8, BGR; not modified.
            letterbox: how it was scaled.
            whole: the picture in full size, to be kept for cutting; None if it is not at hand.
            scope: the parts that are hidden, and black already.
        """
        with metrics.STAGE_SECONDS.labels("detect").time():
            found = self.detector.detect(scaled)
        faces = self._faces(scaled, letterbox, found, scope)
        doubtful = self._doubtful(found.doubtful, letterbox, faces, scope)
        view = View(letterbox.source_width, letterbox.source_height, faces.sights)
        return Look(faces.found, view, whole, doubtful)

    def detect_parts(
        self,
        scaled: BgrImage,
        letterbox: Letterbox,
        parts: Sequence[Rectangle],
        kept: SeenFaces,
        scope: Scope = WHOLE,
    ) -> Look:
        """Return the faces in parts of a picture, together with those kept beside the parts.

        Args:
            scaled: as of `detect`.
            letterbox: how it was scaled.
            parts: what the detector is shown, in pixels of the canvas.
            kept: the faces that count as still there without a look.
            scope: as of `detect`.
        """
        with metrics.STAGE_SECONDS.labels("detect").time():
            seen = [self._detect_part(scaled, part) for part in parts]
        new = self._faces(scaled, letterbox, suppress(joined(seen), 0), scope)
        faces = kept.with_new(new, self.settings.max_faces)
        every = np.concatenate([NO_BOXES, *(each.doubtful for each in seen)])
        doubtful = self._doubtful(every, letterbox, faces, scope)
        view = View(letterbox.source_width, letterbox.source_height, faces.sights)
        return Look(faces.found, view, doubtful=doubtful)

    def _detect_part(self, scaled: BgrImage, part: Rectangle) -> Detections:
        found = self.detector.detect(within(scaled, part)).moved(part.x, part.y)
        height, width = scaled.shape[:2]
        doubtful = found.doubtful[wholly_seen(found.doubtful, part, width, height)]
        return replace(found.selected(wholly_seen(found.boxes, part, width, height)), doubtful=doubtful)

    def _faces(self, scaled: BgrImage, letterbox: Letterbox, found: Detections, scope: Scope) -> SeenFaces:
        """Return what was found on the canvas, is large enough and not hidden, in pixels of the frame."""
        found = unmasked(found, scope.mask, letterbox.width, letterbox.height)
        source = found.scaled(letterbox.to_source)
        large = source.large_enough(scope.min_face_px or self.settings.min_face_px)
        sights = sightings(scaled, found.selected(large), letterbox.to_source) if self._is_asked else ()
        return SeenFaces(source.selected(large), sights)

    def _doubtful(self, boxes: Floats, letterbox: Letterbox, faces: SeenFaces, scope: Scope) -> Floats:
        """Return the doubtful boxes that overlap none of these faces, in pixels of the frame."""
        if not len(boxes):
            return NO_BOXES
        source = Detections(boxes).scaled(letterbox.to_source)
        boxes = source.boxes[source.large_enough(scope.min_face_px or self.settings.min_face_px)]
        is_face = (overlaps(boxes, faces.found.boxes) > NMS_OVERLAP).any(axis=1)
        return boxes[~is_face]

    def cut(
        self, frame: Frame, look: Look, wanted: Sequence[WantedFace] | None, most_bytes: int | None = None
    ) -> list[Face]:
        """Cut faces out of a frame. The same frame gives the same faces, byte for byte.

        It waits while the pictures of other threads, decoded in full, take all the memory set for them.

        Args:
            frame: its picture has to be cheap to decode.
            look: the result of the look at it.
            wanted: which of the faces; None for all, best first.
            most_bytes: the largest image of a face that brokers take; None: any that the setting allows.

        Raises:
            Refused: the picture cannot be decoded in full.
        """
        chosen = look.chosen(wanted)
        if not chosen:
            return []
        style = self.style(most_bytes)
        pixels = look.view.width * look.view.height
        with metrics.STAGE_SECONDS.labels("cut").time(), self._memory.holding(pixels):
            # Decoded in full only now: most frames have no face in them that is wanted.
            whole = JpegImage.open(frame.jpeg, frame.scope).decode() if look.whole is None else look.whole
            cuts = [cutting.cut(whole, look.found.boxes[index], style) for index in chosen]
        return self.faces(frame, look, chosen, cuts)

    def style(self, most_bytes: int | None) -> CropStyle:
        """Return how faces are cut, with room for what EXIF and sealing add; `most_bytes` as in `cut`."""
        bound = self.settings.max_crop_bytes
        bound = bound if most_bytes is None else min(bound, most_bytes)
        bound -= finishing.MOST_BYTES if self.settings.exif else 0
        bound -= envelope.most_growth_bytes(bound, len(self.settings.seal_to)) if self.settings.seal_to else 0
        return CropStyle(
            self.settings.crop_margin, self.settings.crop_format, self.settings.crop_quality, bound
        )

    def faces(self, frame: Frame, look: Look, chosen: Chosen, cuts: Iterable[Crop | None]) -> list[Face]:
        """Return crops of a frame as faces, ready to be published.

        Args:
            frame: the frame.
            look: the result of the look at it.
            chosen: which faces were cut.
            cuts: their crops, in the same order; None, which is left out, for one beside the picture.
        """
        return [
            self._face(frame, look, index, one, chosen[index])
            for index, one in zip(chosen, cuts, strict=True)
            if one is not None
        ]

    @property
    def _is_asked(self) -> bool:
        return self.settings.keep == "visits"

    def _face(self, frame: Frame, look: Look, index: int, one: Crop, wanted: WantedFace | None) -> Face:
        extensions = {
            "box": ",".join(map(str, one.box)),
            "crop": ",".join(map(str, one.crop)),
            "framesize": f"{look.view.width}x{look.view.height}",
            **_measurements(look.found, index),
            "sharpness": str(one.sharpness),
            "detector": self.detector.name,
            **_visit(wanted),
        }
        if not frame.is_clock_synchronised:
            extensions.update([UNSYNCHRONISED])
        image = one.image
        if self.settings.exif:
            image = finishing.add_exif(
                image, frame.source, frame.time if frame.is_clock_synchronised else None
            )
        return finish(self.settings, frame.source, frame.time, image, one.content_type, known=extensions)


def _visit(wanted: WantedFace | None) -> dict[str, str]:
    if wanted is None:
        return {}
    return {
        "visit": wanted.visit,
        "shot": str(wanted.shot),
        "quality": f"{wanted.quality:.3f}",
        "why": wanted.why.value,
    }


def _measurements(found: Detections, index: int) -> dict[str, str]:
    """Return score and landmarks, of detectors that have them."""
    measurements = {}
    if found.scores is not None:
        measurements["score"] = f"{found.scores[index]:.3f}"
    if found.landmarks is not None:
        measurements["landmarks"] = ",".join(f"{value:.1f}" for value in found.landmarks[index].flat)
    return measurements
