"""When the last face of each camera was taken, for whoever asks how it goes."""

from services.forward.metrics import LAST_FACE_AT

MOST_CAMERAS = 256
"""Their names come from the local broker: beyond this no new one is taken."""


class LastFaces:
    """Shows it as a metric, of a bounded number of cameras."""

    def __init__(self) -> None:
        self._cameras: set[str] = set()

    def note(self, camera: str, now_unix_s: float) -> None:
        """Take note of a face that was taken just now."""
        if camera in self._cameras or len(self._cameras) < MOST_CAMERAS:
            self._cameras.add(camera)
            LAST_FACE_AT.labels(camera).set(now_unix_s)
