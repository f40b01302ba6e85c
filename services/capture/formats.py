"""Which of a camera's formats to ask it for."""

from collections.abc import Iterable
from dataclasses import dataclass

from services.capture.options import Options, Size

USUAL_LIMIT = Size(1920, 1080)
USUAL_FPS = 30.0
ENOUGH_FPS = 10.0
"""Less is taken only where there is nothing faster: a raw picture that is large comes slowly over USB."""

# By ffmpeg's names. What a camera has compressed as JPEG goes on as it is; raw is encoded here; the rest has
# to be decoded before.
_PREFERENCE = {"mjpeg": 2, "h264": 0, "hevc": 0}


@dataclass(frozen=True, slots=True)
class Format:
    """One way in which a camera delivers pictures.

    Attributes:
        codec: by ffmpeg's name: `mjpeg`, `yuyv422`, ...
        size: in pixels.
        fps: frames per second; nothing where the camera does not tell.
    """

    codec: str
    size: Size
    fps: float | None = None


def choose(formats: Iterable[Format], options: Options) -> Format | None:
    """Return the best format that the options allow, or nothing if the camera has none of the wanted codec.

    Best is: within the size limit, fast enough, JPEG, large; no faster than wanted if it can be helped.
    """
    wanted = [one for one in formats if options.format in (None, one.codec)]
    return max(wanted, key=lambda one: _rank(one, options), default=None)


def _rank(one: Format, options: Options) -> tuple[float, ...]:
    limit = options.size or USUAL_LIMIT
    fps = USUAL_FPS if one.fps is None else one.fps
    wanted_fps = options.fps or USUAL_FPS
    area = one.size.width * one.size.height
    is_within = one.size.width <= limit.width and one.size.height <= limit.height
    # Cameras say 29.97 and mean 30.
    is_enough = fps >= 0.98 * min(wanted_fps, ENOUGH_FPS)
    is_all = fps >= 0.98 * wanted_fps
    return (
        is_within,
        is_enough,
        _PREFERENCE.get(one.codec, 1),
        area if is_within else -area,
        is_all,
        -fps if is_all else fps,
    )
