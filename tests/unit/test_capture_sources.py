from dataclasses import replace

import pytest

from services.capture.cameras import parse_camera
from services.capture.options import Size
from services.capture.source import commands
from services.capture.source.commands import (
    FFMPEG_VARIABLES,
    address_variables,
    command,
    look_command,
    needs_probe,
    probe_command,
)
from services.capture.source.facts import Command, OutputFormat, RelayAddress, SourceFacts
from services.capture.source.http_address import HttpKind

RELAY = RelayAddress("rtsp://127.0.0.1:4/token")
WEB_RELAY = RelayAddress("http://host:80/token", "http://127.0.0.1:4")
FACTS = SourceFacts("ffmpeg", has_zscale=True, relay_address=RELAY)
BEFORE = "ffmpeg -nostdin -hide_banner -nostats -loglevel level+info"
COPY = "-map 0:v:0 -c:v copy -f mpjpeg -flush_packets 1 pipe:1"
ONE_THREAD = "-threads 1 -filter_threads 1"
FULL_RANGE = "format=yuv420p|yuvj420p,zscale=range=full,format=yuv420p|yuvj420p"
RTSP = f"-timeout 5000000 -fflags nobuffer -flags low_delay -analyzeduration 500000 -i {RELAY.url}"
OVER_TCP = f"{' '.join(commands.MAY_OPEN_RTSP)} -rtsp_transport tcp"
OVER_UDP = f"{' '.join(commands.MAY_OPEN_RTSP_OVER_UDP)} -rtsp_transport udp"
WEB = (
    f"{' '.join(commands.MAY_OPEN_WEB)} -http_proxy {WEB_RELAY.proxy} -rw_timeout 5000000 -i {WEB_RELAY.url}"
)
FILE = " ".join(commands.MAY_OPEN_FILE)

CSI = (
    "gst-launch-1.0 -q nvarguscamerasrc sensor-id=1 ! "
    "video/x-raw(memory:NVMM),width=1920,height=1080,framerate=30/1 ! nvvidconv flip-method=2 ! "
    "video/x-raw(memory:NVMM),format=I420 ! nvjpegenc quality=80 ! "
    "multipartmux boundary=faceferry ! fdsink fd=1 sync=false"
)
RPICAM = (
    "libcamera-vid --camera 0 --timeout 0 --nopreview --flush --codec mjpeg --quality 85 "
    "--width 1280 --height 720 --framerate 15 --rotation 0 --output -"
)


FIFTEEN = "select='isnan(t)+isnan(prev_selected_t)+not(eq(floor(t*15+0.01),floor(prev_selected_t*15+0.01)))'"


def raw(filters: str = FULL_RANGE) -> str:
    numbered = f"{filters},settb=1/1000,setpts=N -fps_mode passthrough -enc_time_base 1:1000"
    return f"-map 0:v:0 -vf {numbered} -f yuv4mpegpipe -flush_packets 1 pipe:1"


def run(camera: str, facts: SourceFacts = FACTS) -> Command:
    return command(parse_camera(f"a={camera}"), facts)


@pytest.mark.parametrize(
    ("camera", "facts", "words", "output_format"),
    [
        (
            "v4l2:///dev/video0?fps=30",
            SourceFacts("ffmpeg", codec="mjpeg", size=Size(1280, 720), fps=30.0),
            f"{BEFORE} -f v4l2 -input_format mjpeg -video_size 1280x720 -framerate 30 -i /dev/video0 {COPY}",
            OutputFormat.MULTIPART,
        ),
        (
            "v4l2:///dev/video1",
            SourceFacts("ffmpeg", codec="yuyv422", size=Size(640, 480), has_zscale=True),
            f"{BEFORE} {ONE_THREAD} -f v4l2 -input_format yuyv422 -video_size 640x480 -i /dev/video1 {raw()}",
            OutputFormat.Y4M,
        ),
        (
            "v4l2:///dev/video1",
            SourceFacts("ffmpeg", codec="yuyv422", size=Size(640, 480), most_fps=15.0, has_zscale=True),
            f"{BEFORE} {ONE_THREAD} -f v4l2 -input_format yuyv422 -video_size 640x480 -i /dev/video1 "
            + raw(f"{FIFTEEN},{FULL_RANGE}"),
            OutputFormat.Y4M,
        ),
        (
            "rtsp://u:p@host/live",
            FACTS,
            f"{BEFORE} {ONE_THREAD} {OVER_TCP} {RTSP} {raw()}",
            OutputFormat.Y4M,
        ),
        (
            "rtsp://host/live?transport=udp&format=mjpeg",
            FACTS,
            f"{BEFORE} {OVER_UDP} {RTSP} {COPY}",
            OutputFormat.MULTIPART,
        ),
        (
            "http://host/mjpg?size=640x480",
            SourceFacts("ffmpeg", codec="mjpeg", has_zscale=True, relay_address=WEB_RELAY),
            f"{BEFORE} {ONE_THREAD} {WEB} "
            + raw(
                "scale=w='min(iw,640)':h='min(ih,480)':force_original_aspect_ratio=decrease"
                f":force_divisible_by=2,{FULL_RANGE}"
            ),
            OutputFormat.Y4M,
        ),
        (
            "http://host/mjpg",
            SourceFacts("ffmpeg", codec="mjpeg", relay_address=WEB_RELAY),
            f"{BEFORE} {WEB} {COPY}",
            OutputFormat.MULTIPART,
        ),
        (
            "file:///a%20b.mp4?paced=1",
            FACTS,
            f"{BEFORE} {ONE_THREAD} {FILE} -i file:/a~b.mp4 {raw()}",
            OutputFormat.Y4M,
        ),
        (
            "file:///x.mp4?loop=1&rotate=90&hwaccel=vaapi&threads=0",
            SourceFacts("ffmpeg"),
            f"{BEFORE} -hwaccel vaapi -threads 0 -filter_threads 1 -re -stream_loop -1 {FILE} -i file:/x.mp4 "
            + raw("transpose=clock,scale=out_range=pc,format=yuv420p"),
            OutputFormat.Y4M,
        ),
        (
            "file:///x.mp4?hwaccel=vaapi",
            SourceFacts("ffmpeg", is_hwaccel_off=True, has_zscale=True),
            f"{BEFORE} {ONE_THREAD} -re {FILE} -i file:/x.mp4 {raw()}",
            OutputFormat.Y4M,
        ),
        (
            "test://?fps=5&size=640x360",
            FACTS,
            f"{BEFORE} {ONE_THREAD} -re -f lavfi -i testsrc2=size=640x360:rate=5 {raw()}",
            OutputFormat.Y4M,
        ),
        (
            "csi://1?size=1920x1080&fps=30&quality=80&rotate=180",
            FACTS,
            CSI,
            OutputFormat.MULTIPART,
        ),
        (
            "rpicam://0?size=1280x720&fps=15",
            SourceFacts("ffmpeg", rpicam="libcamera-vid"),
            RPICAM,
            OutputFormat.JPEG,
        ),
        ("exec:sh -c 'a | b' ?format=y4m", FACTS, "sh -c a~|~b", OutputFormat.Y4M),
        ("exec:my-camera --fast", FACTS, "my-camera --fast", OutputFormat.MULTIPART),
    ],
)
def test_every_kind_of_camera_has_its_program(
    camera: str, facts: SourceFacts, words: str, output_format: OutputFormat
) -> None:
    made = run(camera, facts)
    assert (made.argv, made.output_format) == (split(words), output_format)
    assert made.environment == (FFMPEG_VARIABLES if words.startswith("ffmpeg") else {})


def split(words: str) -> tuple[str, ...]:
    """Split at spaces; `~` is a space within a word."""
    return tuple(word.replace("~", " ") for word in words.split(" "))


@pytest.mark.parametrize("change", ["quality=50", "rotate=180"])
def test_jpeg_that_is_to_be_changed_is_decoded(change: str) -> None:
    facts = SourceFacts("ffmpeg", codec="mjpeg", size=Size(640, 480))
    assert run("v4l2:///dev/video0", facts).output_format is OutputFormat.MULTIPART
    assert run(f"v4l2:///dev/video0?{change}", facts).output_format is OutputFormat.Y4M


def test_jpeg_that_its_container_wants_turned_is_decoded_for_only_there_it_is_said() -> None:
    facts = SourceFacts("ffmpeg", codec="mjpeg")
    assert run("file:///x.mov", facts).output_format is OutputFormat.MULTIPART
    assert run("file:///x.mov", replace(facts, is_turned=True)).output_format is OutputFormat.Y4M


def test_device_without_a_small_size_is_scaled_down() -> None:
    facts = SourceFacts("ffmpeg", codec="mjpeg", size=Size(640, 480))
    assert run("v4l2:///dev/video0?size=640x480", facts).output_format is OutputFormat.MULTIPART
    assert "min(iw,320)" in " ".join(run("v4l2:///dev/video0?size=320x240", facts).argv)


def test_only_what_ffmpeg_opens_is_asked_for_its_codec() -> None:
    assert needs_probe(parse_camera("a=http://host/x"))
    assert not needs_probe(parse_camera("a=http://host/x?format=mjpeg"))
    assert not needs_probe(parse_camera("a=test://"))
    words = probe_command(parse_camera("a=rtsp://host/x"), FACTS)
    assert " ".join(words) == (
        f"{BEFORE} {OVER_TCP} {RTSP} -map 0:v:0 -c copy -frames:v 1 -f framecrc pipe:1"
    )


@pytest.mark.parametrize("scheme", ["rtsp", "rtsps", "http", "https"])
@pytest.mark.parametrize("http_kind", [None, HttpKind.SNAPSHOT, HttpKind.MULTIPART])
@pytest.mark.parametrize("more", ["", "&quality=50", "&format=mjpeg"])
def test_no_command_line_tells_an_address_on_a_network(
    scheme: str, http_kind: HttpKind | None, more: str
) -> None:
    camera = parse_camera(f"a={scheme}://admin:s3cret@cam/user=a_password=t0ps3cret?token=sesame{more}")
    facts = replace(FACTS, http_kind=http_kind)
    made = command(camera, facts)
    for words in (made.argv, probe_command(camera, facts), look_command(facts)):
        assert not any(word in " ".join(words) for word in ("s3cret", "sesame", "admin", "password"))
    assert "s3cret" not in repr(made)
    assert "s3cret" in str(address_variables(camera))
