"""From a frame's bytes to its faces, in one thread."""

from dataclasses import dataclass

from services.common.faces import Face, mint
from services.common.frames import Frame
from services.detect import metrics, pictures
from services.detect.boxes import Detections, Letterbox, Rectangle, clip_box, crop_rectangle
from services.detect.detectors import Detector
from services.detect.pictures import Jpeg, Picture
from services.detect.settings import DetectSettings

_LEAST_SIDE_PX = 16


@dataclass(frozen=True, slots=True)
class Pipeline:
    """Finds and cuts the faces of a frame; may be called from several threads at once."""

    detector: Detector
    settings: DetectSettings

    def find_faces(self, frame: Frame, most_bytes: int | None = None) -> list[Face]:
        """Return a frame's faces, best first. The same frame gives the same faces, byte for byte.

        Args:
            frame: the frame.
            most_bytes: what the broker takes of a crop, where that is less than the setting allows.

        Raises:
            Refused: the frame is no picture that can be decoded; see `pictures.Jpeg`.
        """
        jpeg = Jpeg.open(frame.jpeg)
        found, picture = self.detect(jpeg)
        if not len(found):
            return []
        with metrics.STAGE_SECONDS.labels("cut").time():
            # Decoded in full only now: most frames have no face in them.
            whole = picture if picture.shape[:2] == (jpeg.height, jpeg.width) else jpeg.decode()
            bound = self.settings.max_crop_bytes
            bound = bound if most_bytes is None else min(bound, most_bytes)
            faces = [self._cut(frame, whole, found, index, bound) for index in range(len(found))]
        return [face for face in faces if face is not None]

    def detect(self, jpeg: Jpeg) -> tuple[Detections, Picture]:
        """Return the faces in pixels of the whole picture, and the picture as it was decoded for that.

        Raises:
            Refused: it cannot be decoded.
        """
        letterbox = Letterbox.fit(jpeg.width, jpeg.height, self.settings.detection_size_px)
        with metrics.STAGE_SECONDS.labels("decode").time():
            picture = jpeg.decode(letterbox.width, letterbox.height)
            scaled = pictures.resize(picture, letterbox.width, letterbox.height)
        with metrics.STAGE_SECONDS.labels("detect").time():
            found = self.detector.detect(scaled).scaled(letterbox.to_source)
        return found.at_least(self.settings.min_face_px), picture

    def _cut(
        self, frame: Frame, whole: Picture, found: Detections, index: int, most_bytes: int
    ) -> Face | None:
        """Return one face; nothing if its box lies in the padding beside the picture."""
        height, width = whole.shape[:2]
        box = clip_box(found.boxes[index], width, height)
        crop = crop_rectangle(found.boxes[index], self.settings.crop_margin, width, height)
        if box is None or crop is None:
            return None
        extensions = {
            "box": ",".join(map(str, box)),
            "framesize": f"{width}x{height}",
            **_measurements(found, index),
            "sharpness": str(pictures.sharpness(_within(whole, box))),
            "detector": self.detector.name,
        }
        if not frame.is_clock_synchronised:
            extensions["clock"] = "unsynchronised"
        image, content_type = self._encode(_within(whole, crop), most_bytes)
        return mint(frame.source, frame.time, image, content_type, extensions)

    def _encode(self, crop: Picture, most_bytes: int) -> tuple[bytes, str]:
        """Return the crop encoded, halved in size until brokers take it."""
        while True:
            if self.settings.crop_format == "png":
                image, content_type = pictures.encode_png(crop), "image/png"
            else:
                image, content_type = pictures.encode_jpeg(crop, self.settings.crop_quality), "image/jpeg"
            height, width = crop.shape[:2]
            if len(image) <= most_bytes or min(width, height) < 2 * _LEAST_SIDE_PX:
                return image, content_type
            crop = pictures.shrink(crop)


def _within(picture: Picture, part: Rectangle) -> Picture:
    return picture[part.y : part.y + part.height, part.x : part.x + part.width]


def _measurements(found: Detections, index: int) -> dict[str, str]:
    """Return score and landmarks, of detectors that have them."""
    measurements = {}
    if found.scores is not None:
        measurements["score"] = f"{found.scores[index]:.3f}"
    if found.landmarks is not None:
        measurements["landmarks"] = ",".join(f"{value:.1f}" for value in found.landmarks[index].flat)
    return measurements
