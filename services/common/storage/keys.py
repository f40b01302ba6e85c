"""The key of a face under the store's URL: `dt=YYYY-MM-DD/device={device}/camera={camera}/{id}.jpg`.

The date is that of the capture, in UTC, not that of the arrival: a face has one key however late it comes.
"""

import re
from dataclasses import dataclass
from datetime import date, datetime

from services.common.errors import Refused
from services.common.wire import times
from services.common.wire.faces import SUFFIXES, is_id
from services.common.wire.topics import Source, is_name

ABOUT = ".json"
"""Suffix of the file with the metadata of the image beside it."""

_NAME = re.compile(r"\d{8}T([01]\d|2[0-3])[0-5]\d[0-5]\d\.\d{6}Z-[0-9a-f]{32}\.(?:jpg|png|age)", re.ASCII)


@dataclass(frozen=True, slots=True)
class FaceKey:
    """A face, as its key names it.

    Attributes:
        source: the camera.
        id: the face's id.
        content_type: see `Face`.
    """

    source: Source
    id: str
    content_type: str

    @property
    def time(self) -> datetime:
        """When the frame was taken, UTC."""
        return id_time(self.id)

    def __str__(self) -> str:
        return f"{source_folder(self.source, self.id)}/{self.id}{SUFFIXES[self.content_type]}"


def day_folder(day: str) -> str:
    """Return the folder of a day; `day` is `YYYY-MM-DD`."""
    return f"dt={day}"


def day_in(path: str) -> date | None:
    """Return the day of a path, or None where it is in no day's folder."""
    folder = path.partition("/")[0]
    try:
        day = date.fromisoformat(folder.removeprefix(day_folder("")))
    except ValueError:
        return None
    return day if folder == day_folder(day.isoformat()) else None


def source_folder(source: Source, face_id: str) -> str:
    """Return the folder of a camera on the day that a face's id names."""
    return camera_folder(source, f"{face_id[:4]}-{face_id[4:6]}-{face_id[6:8]}")


def camera_folder(source: Source, day: str) -> str:
    """Return the folder of a camera on a day; `day` is `YYYY-MM-DD`."""
    return f"{day_folder(day)}/device={source.device}/camera={source.camera}"


def parse_key(key: str) -> FaceKey | None:
    """Return the face that a key names, or None where it is not a face's key."""
    match key.split("/"):
        case [_, device, camera, name]:
            found = _from_parts(device.removeprefix("device="), camera.removeprefix("camera="), name)
            return found if found is not None and str(found) == key else None
    return None


def face_in(path: str) -> FaceKey | None:
    """Return the face that a file belongs to, as its image or its metadata, or None."""
    if path.endswith(ABOUT):
        return parse_key(f"{path.removesuffix(ABOUT)}{SUFFIXES['image/jpeg']}")
    return parse_key(path)


def hour_in(name: str) -> int | None:
    """Return the hour (0 to 23, UTC) in a face's file name, or None where it is not a face's.

    It checks less than `parse_key`, at a tenth of its cost: it is for counting.
    """
    found = _NAME.fullmatch(name)
    return int(found[1]) if found else None


def id_time(face_id: str) -> datetime:
    """Return the time that an id starts with.

    Raises:
        Refused: `bad_time`: its digits are not a time.
    """
    text = face_id
    date = f"{text[:4]}-{text[4:6]}-{text[6:8]}"
    return times.parse_rfc3339(f"{date}T{text[9:11]}:{text[11:13]}:{text[13:23]}")


def _from_parts(device: str, camera: str, name: str) -> FaceKey | None:
    for content_type, suffix in SUFFIXES.items():
        face_id = name.removesuffix(suffix)
        if face_id != name and is_id(face_id) and is_name(device) and is_name(camera):
            return FaceKey(Source(device, camera), face_id, content_type) if _has_time(face_id) else None
    return None


def _has_time(face_id: str) -> bool:
    try:
        id_time(face_id)
    except Refused:
        return False
    return True
