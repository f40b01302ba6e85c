"""A camera, or a recording, that names other files and other hosts: real ffmpeg, real servers on loopback.

What a playlist leads to is a real clip, so a program that follows it gets pictures.
"""

import base64
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from services.capture.cameras import parse_camera
from services.capture.check import check_source
from services.capture.source.ffmpeg import find_ffmpeg
from services.capture.source.http_address import HttpAddress, NoSnapshot
from services.capture.source.snapshots import fetch
from services.common.errors import SetupError
from services.common.runtime.files import file_url
from tests.hostile_camera import HostileCamera, serving

ELSEWHERE = "127.0.0.2"


def playlist(*addresses: str, before: str = "") -> bytes:
    entries = "".join(f"#EXTINF:2,\n{address}\n" for address in addresses)
    return f"#EXTM3U\n#EXT-X-VERSION:7\n#EXT-X-TARGETDURATION:2\n{before}{entries}#EXT-X-ENDLIST\n".encode()


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One second of MPEG transport stream."""
    path = tmp_path_factory.mktemp("hostile") / "clip.ts"
    words = f"-f lavfi -i testsrc2=size=160x120:rate=10 -t 1 -c:v mpeg2video {path}"
    subprocess.run([find_ffmpeg(), "-v", "error", "-y", *words.split()], check=True, timeout=60)
    path.with_suffix(".txt").write_text(f"{path}\n")
    return path


@pytest.fixture
def elsewhere(clip: Path) -> Iterator[HostileCamera]:
    """Another host of the network, with something that looks like a segment."""
    with serving({"/clip.ts": clip.read_bytes()}, ELSEWHERE) as server:
        yield server


async def refused(url: str) -> str:
    """Return why there is no picture; fail if there is one."""
    with pytest.raises(SetupError) as caught:
        await check_source(parse_camera(f"a={url}"), timeout_s=8)
    return str(caught.value)


ENTRIES = (
    "{clip}",
    "file:{clip}",
    "file://{clip}",
    "subfile,,start,0,end,0,,:{clip}",
    "concat:{clip}|{clip}",
    "concatf:{list}",
    "crypto:{clip}",
    "crypto+file:{clip}",
    "cache:{clip}",
    "async:{clip}",
    "data:video/mp2t;base64,{base64}",
    "{elsewhere}/clip.ts",
    "//{place}/clip.ts",
    "tcp://{place}/clip.ts",
    "crypto+{elsewhere}/clip.ts",
    "httpproxy://{place}/clip.ts",
    "udp://127.0.0.2:9/clip.ts",
    "/moved.ts",
    "pipe:0",
    "fd:0",
)
SHAPES: Mapping[str, Callable[[str], bytes]] = {
    "segment": playlist,
    "variant": lambda entry: f"#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\n{entry}\n".encode(),
    "map": lambda entry: playlist("/own.ts", before=f'#EXT-X-MAP:URI="{entry}"\n'),
    "key": lambda entry: playlist("/own.ts", before=f'#EXT-X-KEY:METHOD=AES-128,URI="{entry}"\n'),
}
SCRIPTS = {
    "ffconcat": "ffconcat version 1.0\nfile '{}'\n",
    "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.2\ns=x\nc=IN IP4 127.0.0.2\nt=0 0\nm=video 9 RTP/AVP 33\n",
    "dash": (
        "<?xml version='1.0'?><MPD xmlns='urn:mpeg:dash:schema:mpd:2011' type='static' "
        "mediaPresentationDuration='PT1S'><Period><AdaptationSet mimeType='video/mp2t'>"
        "<Representation id='1' bandwidth='1'><BaseURL>{}</BaseURL></Representation></AdaptationSet>"
        "</Period></MPD>"
    ),
}


@pytest.mark.parametrize("entry", ENTRIES)
@pytest.mark.parametrize("shape", SHAPES)
async def test_a_camera_s_playlist_leads_to_no_file_and_no_other_host(
    clip: Path, elsewhere: HostileCamera, entry: str, shape: str
) -> None:
    body = clip.read_bytes()  # noqa: ASYNC240 - a few kilobytes
    target = entry.format(
        clip=clip,
        list=clip.with_suffix(".txt"),
        base64=base64.b64encode(body).decode(),
        elsewhere=elsewhere.url(""),
        place=elsewhere.url("").removeprefix("http://"),
    )
    pages: dict[str, bytes | str] = {"/moved.ts": elsewhere.url("/clip.ts"), "/own.ts": body}
    pages["/x.m3u8"] = SHAPES[shape](target)
    with serving(pages) as camera:
        await refused(camera.url("/x.m3u8"))
        assert "/x.m3u8" in camera.asked
    assert elsewhere.asked == []


@pytest.mark.parametrize("kind", SCRIPTS)
@pytest.mark.parametrize("name", ["x", "x.ts", "x.mp4", "x.mjpg"])
async def test_nor_does_a_script_whatever_it_calls_itself(
    clip: Path, elsewhere: HostileCamera, kind: str, name: str
) -> None:
    with serving({f"/{name}": SCRIPTS[kind].format(elsewhere.url("/clip.ts")).encode()}) as camera:
        await refused(camera.url(f"/{name}"))
    path = clip.parent / name
    path.write_text(SCRIPTS[kind].format(clip.name))
    await refused(file_url(path))
    assert elsewhere.asked == []


@pytest.mark.parametrize("to", ["http", "https", "ftp", "file", "rtsp"])
async def test_a_redirection_leads_to_no_other_host(clip: Path, elsewhere: HostileCamera, to: str) -> None:
    target = f"file://{clip}" if to == "file" else elsewhere.url("/clip.ts").replace("http", to, 1)
    with serving({"/x": target, "/again": "/x"}) as camera:
        for path in ("/x", "/again"):
            await refused(camera.url(path, user="admin:Zq7xT"))
            with pytest.raises(NoSnapshot):
                fetch(HttpAddress(camera.url(path)))
    assert elsewhere.asked == []


async def test_where_a_playlist_leads_elsewhere_that_is_said(elsewhere: HostileCamera) -> None:
    with serving({"/x.m3u8": playlist(elsewhere.url("/clip.ts"))}) as camera:
        assert f"{ELSEWHERE}:{elsewhere.server_port}" in await refused(camera.url("/x.m3u8"))


async def test_a_playlist_of_the_camera_s_own_is_followed(clip: Path) -> None:
    with serving({"/a.ts": clip.read_bytes()}) as camera:  # noqa: ASYNC240 - a few kilobytes
        main = f"#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\n{camera.url('/deep/v.m3u8')}\n"
        camera.pages |= {"/x.m3u8": main.encode(), "/deep/v.m3u8": playlist("/a.ts"), "/y": "/x.m3u8"}
        for path in ("/x.m3u8", "/y"):
            await check_source(parse_camera(f"a={camera.url(path)}"))
        await check_source(parse_camera(f"a={camera.url('/a.ts')}"))


@pytest.mark.parametrize("name", ["x.m3u8", "x.ts", "x.mp4"])
@pytest.mark.parametrize("what", ["{clip}", "clip.ts", "file:{clip}", "{elsewhere}"])
async def test_a_recording_is_itself_and_names_no_other(
    clip: Path, elsewhere: HostileCamera, tmp_path: Path, name: str, what: str
) -> None:
    shutil.copy(clip, tmp_path)
    target = what.format(clip=clip, elsewhere=elsewhere.url("/clip.ts"))
    (tmp_path / name).write_bytes(playlist(target))
    said = await refused(file_url(tmp_path / name))
    assert "playlist" in said
    assert elsewhere.asked == []
