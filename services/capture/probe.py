import asyncio

from services.capture.cameras import Camera
from services.capture.child import CameraUnavailable, run_child
from services.capture.lines import read_lines
from services.capture.recording import PacketTimes
from services.capture.sources import Site, probe_command
from services.capture.words import LastWords, secrets_of


async def probe_codec(camera: Camera, site: Site, timeout_s: float) -> str:
    """Return what a source delivers, by ffmpeg's name for it.

    Raises:
        CameraUnavailable: it cannot be opened, or not in time.
    """
    packets = PacketTimes()
    words = LastWords(secrets_of(camera.url))
    async with run_child(probe_command(camera, site)) as child:
        try:
            async with asyncio.timeout(timeout_s):
                async for line in read_lines(child.output):
                    packets.add(line)
                async for line in read_lines(child.errors):
                    words.add(f"{line}\n".encode())
        except TimeoutError:
            raise CameraUnavailable(f"no answer within {timeout_s:g} s") from None
    if not packets.codec:
        raise CameraUnavailable(str(words) or "it holds no video")
    return packets.codec
