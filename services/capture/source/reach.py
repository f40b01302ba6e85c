"""What ffmpeg may open for a source, which is no more than what such sources are made of.

A playlist, a script or a session description names files and hosts, whatever it calls itself, and ffmpeg
opens what it names. So none is read but HLS, and that only from a camera on a web server, whose relay leads
nowhere else.
"""

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


FILE = _only((*_MOVING, *_RECORDED), ("file",))
"""A recording: itself, and no other file."""
WEB = _only((*_MOVING, *_OF_PLAYLISTS), ("http", "tcp"))
"""A camera on a web server. `tcp` is what `http` stands on; no demuxer among these opens it itself."""
RTSP = _only(("rtsp",), ("rtsp", "tcp"))
RTSP_OVER_UDP = _only(("rtsp",), ("rtsp", "tcp", "rtp", "udp"))
PIPE = _only(("mpjpeg",), ("pipe",))
