from dataclasses import dataclass

from services.capture.answers import Answer
from services.capture.cameras import Camera
from services.capture.child import CameraUnavailable, run_child
from services.capture.delivery import Description, PacketTimes
from services.capture.lines import listen
from services.capture.sources import FFMPEG_VARIABLES, Site, address_variables, look_command, probe_command
from services.capture.words import LastWords


@dataclass(frozen=True, slots=True)
class Delivery:
    """What a source delivers.

    Attributes:
        codec: by ffmpeg's name for it.
        is_turned: whether a player has to turn or mirror the pictures.
    """

    codec: str
    is_turned: bool


async def probe(camera: Camera, site: Site, timeout_s: float) -> Delivery:
    """Return what a source delivers.

    Raises:
        CameraUnavailable: it cannot be opened, or not in time.
    """
    packets, said = PacketTimes(), Description()
    words = LastWords(camera.url, site.entrance.url if site.entrance else "")

    def hear(line: str) -> None:
        said.add(line)
        words.add(f"{line}\n".encode())

    async with run_child(probe_command(camera, site), FFMPEG_VARIABLES) as child:
        try:
            await listen(child, packets.add, hear, timeout_s)
        except TimeoutError:
            raise CameraUnavailable(f"no answer within {timeout_s:g} s") from None
    if not packets.codec:
        raise CameraUnavailable(str(words) or "it holds no video")
    return Delivery(packets.codec, said.is_turned)


async def look_at(camera: Camera, site: Site, timeout_s: float) -> Answer:
    """Return how an `http` address answers.

    Raises:
        CameraUnavailable: that could not even be asked.
    """
    said: list[str] = []
    async with run_child(look_command(site), address_variables(camera)) as child:
        try:
            await listen(child, said.append, lambda _line: None, timeout_s)
        except TimeoutError:
            return Answer.STREAM
    return Answer(said[0]) if said else Answer.STREAM
