"""From a frame's bytes to its faces, in one thread."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from services.common.faces import Face, mint
from services.common.frames import Frame
from services.detect import cutting, metrics, pictures
from services.detect.boxes import Detections, Letterbox
from services.detect.cutting import Cut, Style
from services.detect.detectors import Detector
from services.detect.pictures import Jpeg, Picture
from services.detect.room import Room
from services.detect.settings import DetectSettings

MAX_WHOLE_PIXELS = 24 * 1024 * 1024
"""Of pictures that are in memory in full at the same time; three of 4K. At most 12 bytes each."""


@dataclass(frozen=True, slots=True)
class Pipeline:
    """Finds and cuts the faces of a frame; may be called from several threads at once."""

    detector: Detector
    settings: DetectSettings
    _room: Room = field(default_factory=lambda: Room(MAX_WHOLE_PIXELS))

    def find_faces(self, frame: Frame, most_bytes: int | None = None) -> list[Face]:
        """Return a frame's faces, best first. The same frame gives the same faces, byte for byte.

        Args:
            frame: the frame; its picture is light, see `light`.
            most_bytes: what the broker takes of a crop, where that is less than the setting allows.

        Raises:
            Refused: the frame is no picture that can be decoded; see `pictures.Jpeg`.
        """
        jpeg = Jpeg.open(frame.jpeg)
        found, picture = self.detect(jpeg)
        if not len(found):
            return []
        style = self.style(most_bytes)
        with metrics.STAGE_SECONDS.labels("cut").time(), self._room.holding(jpeg.width * jpeg.height):
            # Decoded in full only now: most frames have no face in them.
            whole = picture if picture.shape[:2] == (jpeg.height, jpeg.width) else jpeg.decode()
            cuts = [cutting.cut(whole, box, style) for box in found.boxes]
        return self.faces(frame, jpeg.width, jpeg.height, found, cuts)

    def detect(self, jpeg: Jpeg) -> tuple[Detections, Picture]:
        """Return the faces in pixels of the whole picture, and the picture as it was decoded for that.

        Raises:
            Refused: it cannot be decoded.
        """
        letterbox = Letterbox.fit(jpeg.width, jpeg.height, self.settings.detection_size_px)
        with metrics.STAGE_SECONDS.labels("decode").time():
            picture = jpeg.decode(letterbox.width, letterbox.height)
            scaled = pictures.resize(picture, letterbox.width, letterbox.height)
        return self.look(scaled, letterbox), picture

    def look(self, scaled: Picture, letterbox: Letterbox) -> Detections:
        """Return the faces in pixels of the whole picture.

        Args:
            scaled: the picture as the letterbox has it.
            letterbox: how it was scaled.
        """
        with metrics.STAGE_SECONDS.labels("detect").time():
            found = self.detector.detect(scaled).scaled(letterbox.to_source)
        return found.at_least(self.settings.min_face_px)

    def style(self, most_bytes: int | None) -> Style:
        """Return how faces are cut; `most_bytes` as in `find_faces`."""
        bound = self.settings.max_crop_bytes
        bound = bound if most_bytes is None else min(bound, most_bytes)
        return Style(self.settings.crop_margin, self.settings.crop_format, self.settings.crop_quality, bound)

    def faces(
        self, frame: Frame, width: int, height: int, found: Detections, cuts: Iterable[Cut | None]
    ) -> list[Face]:
        """Return the faces that were cut out of a frame.

        Args:
            frame: the frame.
            width: of its upright picture, in pixels.
            height: likewise.
            found: the faces.
            cuts: each one cut out, in the same order.
        """
        return [
            self._face(frame, f"{width}x{height}", found, index, one)
            for index, one in enumerate(cuts)
            if one is not None
        ]

    def _face(self, frame: Frame, framesize: str, found: Detections, index: int, one: Cut) -> Face:
        extensions = {
            "box": ",".join(map(str, one.box)),
            "framesize": framesize,
            **_measurements(found, index),
            "sharpness": str(one.sharpness),
            "detector": self.detector.name,
        }
        if not frame.is_clock_synchronised:
            extensions["clock"] = "unsynchronised"
        return mint(frame.source, frame.time, one.image, one.content_type, extensions)


def _measurements(found: Detections, index: int) -> dict[str, str]:
    """Return score and landmarks, of detectors that have them."""
    measurements = {}
    if found.scores is not None:
        measurements["score"] = f"{found.scores[index]:.3f}"
    if found.landmarks is not None:
        measurements["landmarks"] = ",".join(f"{value:.1f}" for value in found.landmarks[index].flat)
    return measurements
