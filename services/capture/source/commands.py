"""The command lines of the programs that read cameras. Pure."""

import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from services.capture.cameras import Camera
from services.capture.options import Size
from services.capture.source.facts import Command, OutputFormat, RelayAddress, SourceFacts
from services.capture.source.http_address import HttpKind, to_environment

# What ffmpeg may open for a source. A playlist, a script or a session description names files and hosts,
# whatever its name is, and ffmpeg opens them. So only HLS is read, and only from a camera on a web server,
# whose relay leads nowhere else.
_MOVING = (
    *("mov", "matroska", "mpegts", "mpeg", "flv", "avi", "asf", "ogg"),
    *("mpjpeg", "mjpeg", "h264", "hevc", "m4v", "ivf", "jpeg_pipe"),
)
_OF_PLAYLISTS = ("hls", "aac", "mp3", "ac3", "eac3", "webvtt")
_RECORDED = (
    *("mpegvideo", "mxf", "nut", "dv", "wtv", "rm", "dhav", "ifv", "obu", "av1", "vvc", "vc1", "y4m"),
    *(
        "yuv4mpegpipe",
        "gif",
        "apng",
        "image2",
        "png_pipe",
        "bmp_pipe",
        "tiff_pipe",
        "webp_pipe",
        "jpegxl_pipe",
    ),
)


def _only(formats: tuple[str, ...], protocols: tuple[str, ...]) -> tuple[str, ...]:
    return ("-protocol_whitelist", ",".join(protocols), "-format_whitelist", ",".join(formats))


MAY_OPEN_FILE = _only((*_MOVING, *_RECORDED), ("file",))
"""A recording: itself, and no other file."""
MAY_OPEN_WEB = _only((*_MOVING, *_OF_PLAYLISTS), ("http", "tcp"))
"""A camera on a web server. `http` needs `tcp`; no demuxer among these opens it itself."""
MAY_OPEN_RTSP = _only(("rtsp",), ("rtsp", "tcp"))
MAY_OPEN_RTSP_OVER_UDP = _only(("rtsp",), ("rtsp", "tcp", "rtp", "udp"))
MAY_OPEN_PIPE = _only(("mpjpeg",), ("pipe",))

USUAL_SNAPSHOT_FPS = 2.0
"""A passer-by is in view for some seconds; many cameras take half a second for a picture."""


def command(camera: Camera, facts: SourceFacts) -> Command:
    """Return the program that reads a camera, as its address, its options and what is known of it say."""
    return _SOURCES[camera.scheme](camera, facts)


def needs_probe(camera: Camera) -> bool:
    """Say whether a source has to be asked what it delivers, see `probe_command`."""
    return camera.scheme in _INPUTS and camera.options.format is None


def probe_command(camera: Camera, facts: SourceFacts) -> tuple[str, ...]:
    """Return the command line by which ffmpeg tells what a source delivers, in its `framecrc` format."""
    arguments = _INPUTS[camera.scheme](camera, facts)
    return (
        *_before(facts),
        *arguments,
        *["-map", "0:v:0", "-c", "copy", "-frames:v", "1", "-f", "framecrc", "pipe:1"],
    )


def _v4l2(camera: Camera, facts: SourceFacts) -> Command:
    options = camera.options
    arguments = ["-f", "v4l2"]
    if facts.codec is not None:
        arguments += ["-input_format", facts.codec]
    if facts.size is not None:
        arguments += ["-video_size", str(facts.size)]
    if facts.fps is not None:
        arguments += ["-framerate", f"{facts.fps:g}"]
    # A camera's own sizes are the limit; one that has none small enough is scaled down.
    is_small = options.size is None or (facts.size is not None and _fits(facts.size, options.size))
    return _ffmpeg(camera, facts, [*arguments, "-i", camera.place], codec=facts.codec, is_small=is_small)


def _rtsp_input(camera: Camera, facts: SourceFacts) -> list[str]:
    # Over TLS all goes through the one connection.
    transport = camera.options.transport if camera.scheme == "rtsp" else "tcp"
    return [
        *(MAY_OPEN_RTSP_OVER_UDP if transport == "udp" else MAY_OPEN_RTSP),
        *("-rtsp_transport", transport),
        # Microseconds. Without it a read may hang for ever after a reconnect.
        *("-timeout", "5000000"),
        *("-fflags", "nobuffer", "-flags", "low_delay"),
        # Microseconds too: ffmpeg analyses a stream for 5 s by default, at every reconnect.
        *("-analyzeduration", "500000"),
        *("-i", _relay_address(facts).url),
    ]


def _http_input(_camera: Camera, facts: SourceFacts) -> list[str]:
    address = _relay_address(facts)
    proxy = [] if address.proxy is None else ["-http_proxy", address.proxy]
    # Told to expect JPEGs alone, ffmpeg looks for their own markers. Each picture comes one later, because it
    # ends where the next one starts.
    only_jpegs = [*_AT_ONCE, "-f", "mjpeg"] if facts.is_boundless else []
    return [*MAY_OPEN_WEB, *proxy, "-rw_timeout", "5000000", *only_jpegs, "-i", address.url]


def _relay_address(facts: SourceFacts) -> RelayAddress:
    assert facts.relay_address is not None, "a camera's own address never stands in a command line"
    return facts.relay_address


def _file_input(camera: Camera, _facts: SourceFacts) -> list[str]:
    options = camera.options
    pace = [] if options.paced else ["-re"]
    loop = ["-stream_loop", "-1"] if options.loop else []
    return [*pace, *loop, *file_input(camera.place)]


def file_input(path: str | Path) -> list[str]:
    """Return ffmpeg's arguments to read a recording, and no file that the recording names."""
    # After "file:", no character of a name has a meaning to ffmpeg.
    return [*MAY_OPEN_FILE, "-i", f"file:{path}"]


def _opened_by_ffmpeg(camera: Camera, facts: SourceFacts) -> Command:
    return _ffmpeg(
        camera,
        facts,
        _INPUTS[camera.scheme](camera, facts),
        codec=camera.options.format or facts.codec,
        is_small=False,
    )


def _http(camera: Camera, facts: SourceFacts) -> Command:
    return (
        _snapshots(camera, facts)
        if facts.http_kind is HttpKind.SNAPSHOT
        else _opened_by_ffmpeg(camera, facts)
    )


def _snapshots(camera: Camera, facts: SourceFacts) -> Command:
    poll = (*_snapshots_program(facts), "poll", f"{snapshot_fps(camera):g}")
    arguments = [*MAY_OPEN_PIPE, *_AT_ONCE, "-f", "mpjpeg", "-i", "pipe:0"]
    through = _ffmpeg(camera, facts, arguments, codec="mjpeg", is_small=False)
    # JPEGs that are only copied need no ffmpeg.
    is_copied = through.output_format is OutputFormat.MULTIPART
    argv = poll if is_copied else (*poll, *through.argv)
    return Command(argv, through.output_format, {**through.environment, **address_variables(camera)})


def snapshot_fps(camera: Camera) -> float:
    """Return how often an address that gives one picture at a time is asked, in pictures per second."""
    return camera.options.fps or USUAL_SNAPSHOT_FPS


def look_command(facts: SourceFacts) -> tuple[str, ...]:
    """Return the command line that tells how an `http` address answers; see `snapshots`."""
    return (*_snapshots_program(facts), "look")


def address_variables(camera: Camera) -> dict[str, str]:
    """Return the environment variables by which a program of `snapshots` finds its address."""
    return to_environment(camera.url, camera.options.trust)


def _snapshots_program(facts: SourceFacts) -> tuple[str, ...]:
    return (facts.python, "-m", "services.capture.source.snapshots")


def _test(camera: Camera, facts: SourceFacts) -> Command:
    options = camera.options
    size, fps = options.size or Size(1280, 720), options.fps or 10
    # testsrc2 moves, and shows the running time and the frame's number.
    arguments = ["-re", "-f", "lavfi", "-i", f"testsrc2=size={size}:rate={fps:g}"]
    return _ffmpeg(camera, facts, arguments, codec=None, is_small=True)


def _csi(camera: Camera, _facts: SourceFacts) -> Command:
    options = camera.options
    size, fps = options.size or Size(1280, 720), options.fps or 30
    raw = f"video/x-raw(memory:NVMM),width={size.width},height={size.height},framerate={_fraction(fps)}"
    # nvvidconv turns counter-clockwise: 1 is 90 degrees to the left, 2 is 180, 3 is 90 to the right.
    flip = {0: 0, 90: 3, 180: 2, 270: 1}[options.rotate]
    stages = (
        ["nvarguscamerasrc", f"sensor-id={camera.place or 0}"],
        [raw],
        ["nvvidconv", f"flip-method={flip}"],
        ["video/x-raw(memory:NVMM),format=I420"],
        ["nvjpegenc", f"quality={options.quality or 85}"],
        ["multipartmux", "boundary=faceferry"],
        ["fdsink", "fd=1", "sync=false"],
    )
    return Command(("gst-launch-1.0", "-q", *_pipeline(stages)), OutputFormat.MULTIPART)


def _rpicam(camera: Camera, facts: SourceFacts) -> Command:
    options = camera.options
    size, fps = options.size or Size(1280, 720), options.fps or 30
    return Command(
        (
            *(facts.rpicam, "--camera", camera.place or "0", "--timeout", "0", "--nopreview", "--flush"),
            *("--codec", "mjpeg", "--quality", str(options.quality or 85)),
            *("--width", str(size.width), "--height", str(size.height), "--framerate", f"{fps:g}"),
            *("--rotation", str(options.rotate), "--output", "-"),
        ),
        OutputFormat.JPEG,
    )


def _exec(camera: Camera, _facts: SourceFacts) -> Command:
    output_format = OutputFormat(camera.options.format or OutputFormat.MULTIPART)
    return Command(tuple(shlex.split(camera.place)), output_format)


FFMPEG_VARIABLES: Mapping[str, None] = dict.fromkeys(("http_proxy", "no_proxy", "FFREPORT"))
"""Taken out of ffmpeg's environment: it would use another proxy, or write addresses to a file."""

# ffmpeg analyses nothing in advance: where pictures are few, it would wait for seconds.
_AT_ONCE = ("-fflags", "nobuffer", "-probesize", "32", "-analyzeduration", "0", "-fpsprobesize", "0")

# Raw pictures leave ffmpeg without times. It computes some all the same, in steps of the frame rate, and
# warns ("Non-monotonic DTS") of two in one step, as cameras and networks often deliver them.
_TICK = "1/1000"
_NUMBERED = ("-enc_time_base", _TICK.replace("/", ":"))

_INPUTS: Mapping[str, Callable[[Camera, SourceFacts], list[str]]] = {
    "rtsp": _rtsp_input,
    "rtsps": _rtsp_input,
    "http": _http_input,
    "https": _http_input,
    "file": _file_input,
}
_SOURCES: Mapping[str, Callable[[Camera, SourceFacts], Command]] = {
    **dict.fromkeys(_INPUTS, _opened_by_ffmpeg),
    "http": _http,
    "https": _http,
    "v4l2": _v4l2,
    "csi": _csi,
    "rpicam": _rpicam,
    "exec": _exec,
    "test": _test,
}


def _before(facts: SourceFacts) -> list[str]:
    return [facts.ffmpeg, "-nostdin", "-hide_banner", "-nostats", "-loglevel", "level+info"]


def _ffmpeg(
    camera: Camera, facts: SourceFacts, arguments: Sequence[str], *, codec: str | None, is_small: bool
) -> Command:
    """Return ffmpeg's command for an input.

    Args:
        camera: whose pictures.
        facts: what is known of it.
        arguments: ffmpeg's for the input.
        codec: of the input, by ffmpeg's name; None: unknown.
        is_small: whether its pictures are known to be within the size limit.
    """
    options = camera.options
    limit = None if is_small else options.size
    words = _before(facts)
    is_jpeg_as_wanted = (
        codec == "mjpeg" and options.quality is None and not (options.rotate or facts.is_turned)
    )
    if is_jpeg_as_wanted and limit is None:
        output = ["-c:v", "copy", "-f", "mpjpeg"]
        output_format = OutputFormat.MULTIPART
    else:
        if options.hwaccel is not None and not facts.is_hwaccel_off:
            words += ["-hwaccel", options.hwaccel]
        # One thread decodes with a sixth less work than two, and without their frames of delay.
        words += ["-threads", str(options.threads), "-filter_threads", "1"]
        filters = _filters(limit, options.rotate, facts.most_fps, has_zscale=facts.has_zscale)
        output = ["-vf", filters, "-fps_mode", "passthrough", *_NUMBERED, "-f", "yuv4mpegpipe"]
        output_format = OutputFormat.Y4M
    argv = (*words, *arguments, "-map", "0:v:0", *output, "-flush_packets", "1", "pipe:1")
    return Command(argv, output_format, FFMPEG_VARIABLES)


def _filters(limit: Size | None, rotate: int, most_fps: float | None, *, has_zscale: bool) -> str:
    """Return ffmpeg's filters: scaled down to `limit`, rotated, and converted to JFIF's full range.

    Of pictures that come more often than `most_fps` some are dropped. Only the range is converted: pictures
    of BT.709 keep their matrix, and their colours are slightly off, as with OpenCV, because to convert these
    costs as much as decoding. In the end pictures are numbered, see `_NUMBERED`.
    """
    chain = {0: [], 90: ["transpose=clock"], 180: ["hflip", "vflip"], 270: ["transpose=cclock"]}[rotate]
    if limit is not None:
        box = f"w='min(iw,{limit.width})':h='min(ih,{limit.height})':force_original_aspect_ratio=decrease"
        chain = [*chain, f"scale={box}:force_divisible_by=2"]
    if most_fps is not None:
        chain = [_thinned(most_fps), *chain]
    planar = "format=yuv420p|yuvj420p"
    # zscale takes a third of the time, but is not in every ffmpeg.
    full_range = (
        [planar, "zscale=range=full", planar] if has_zscale else ["scale=out_range=pc", "format=yuv420p"]
    )
    return ",".join([*chain, *full_range, f"settb={_TICK}", "setpts=N"])


def _thinned(fps: float) -> str:
    """Return the filter that keeps the first picture of each time slot, and all that have no time.

    Times may jump forwards and backwards, as those of network cameras do.
    """
    now, last = (f"floor({time}*{fps:g}+0.01)" for time in ("t", "prev_selected_t"))
    return f"select='isnan(t)+isnan(prev_selected_t)+not(eq({now},{last}))'"


def _fits(size: Size, limit: Size) -> bool:
    return size.width <= limit.width and size.height <= limit.height


def _fraction(fps: float) -> str:
    return f"{fps:g}/1" if fps == int(fps) else f"{round(fps * 1000)}/1000"


def _pipeline(stages: Sequence[Sequence[str]]) -> list[str]:
    """Join GStreamer's elements with the exclamation marks that gst-launch expects between them."""
    words: list[str] = []
    for stage in stages:
        words += ["!", *stage] if words else stage
    return words
