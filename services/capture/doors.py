import contextlib
from collections.abc import AsyncIterator

from services.capture.cameras import Camera
from services.capture.door import Door
from services.capture.http_door import HttpDoor
from services.capture.rtsp_door import RtspDoor

_KINDS: dict[str, type[Door]] = {"rtsp": RtspDoor, "rtsps": RtspDoor, "http": HttpDoor, "https": HttpDoor}


@contextlib.asynccontextmanager
async def open_door(camera: Camera) -> AsyncIterator[Door | None]:
    """Have a door to a camera on a network; there is none to one of this machine.

    Raises:
        CameraUnavailable: there can be none to that address.
    """
    kind = _KINDS.get(camera.scheme)
    if kind is None:
        yield None
        return
    async with kind(camera).opened() as door:
        yield door
