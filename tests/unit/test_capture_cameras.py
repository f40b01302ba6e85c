import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.capture.cameras import SCHEMES, Camera, parse_camera, parse_cameras, to_url
from services.capture.options import Options, Size
from services.common.errors import SetupError
from services.common.wire.scope import Scope


def options(text: str) -> Options:
    return parse_camera(text).options


def refusal(text: str) -> str:
    with pytest.raises(SetupError) as caught:
        parse_cameras(text)
    return str(caught.value)


def test_cameras_are_separated_by_commas_and_by_lines() -> None:
    names = [camera.name for camera in parse_cameras("\n a=test://,b=test://?fps=5 ,\n c=csi://0\n")]
    assert names == ["a", "b", "c"]


def test_comma_separates_only_before_another_name_and_url() -> None:
    first, second = parse_cameras(
        "a=exec:ffmpeg -vf crop=9:9,scale=iw:ih -f mpjpeg -,b=rtsp://host/a,b?x=1,y=2"
    )
    assert first.place == "ffmpeg -vf crop=9:9,scale=iw:ih -f mpjpeg -"
    assert second.url == "rtsp://host/a,b?x=1,y=2"


def test_our_options_leave_the_url_and_the_cameras_own_stay() -> None:
    camera = parse_camera("yard=rtsp://u:p@host/live?channel=1&fps=5&subtype=0&transport=udp")
    assert camera.url == "rtsp://u:p@host/live?channel=1&subtype=0"
    assert camera.options == Options(fps=5, transport="udp")


def test_every_option_of_the_design_is_understood() -> None:
    text = "front=v4l2:///dev/video0?format=mjpeg&size=1280x720&fps=30&quality=70&rotate=90&hwaccel=auto"
    assert parse_camera(text) == Camera(
        "front",
        "v4l2",
        "v4l2:///dev/video0",
        Options(size=Size(1280, 720), fps=30, format="mjpeg", quality=70, rotate=90, hwaccel="auto"),
    )
    assert options("a=file:///x?paced=1").paced
    assert options("a=file:///x?loop=1").loop


def test_command_options_are_its_last_word() -> None:
    camera = parse_camera("a=exec:curl 'http://cam/?fps=9' ?format=jpeg&fps=2")
    assert camera.place == "curl 'http://cam/?fps=9'"
    assert camera.options == Options(format="jpeg", fps=2)
    assert parse_camera("a=exec:curl http://cam/?fps=9").options == Options()


def test_file_name_may_hold_anything_that_is_quoted() -> None:
    place = "/films/what? 50%,b=exec:x #1.mkv"
    assert parse_cameras(f"a={to_url(place)}")[0].place == place


@given(st.binary(min_size=1, max_size=200).filter(lambda name: b"\0" not in name))
def test_any_name_a_file_can_have_survives_as_a_url_in_a_setting(name: bytes) -> None:
    place = b"/films/" + name
    setting = f"a={to_url(os.fsdecode(place))}"
    assert setting.isascii()
    (camera,) = parse_cameras(setting)
    assert os.path.normpath(os.fsencode(camera.place)) == os.path.normpath(place)


def test_name_in_a_url_need_not_be_quoted_or_utf_8() -> None:
    assert parse_camera("a=file:///caf\udce9 b.mp4").place == "/caf\udce9 b.mp4"
    assert parse_camera("a=file:///caf%E9.mp4").place == "/caf\udce9.mp4"
    assert parse_camera("a=file:///caf%C3%A9.mp4").place == "/café.mp4"


def test_device_and_url_are_told_from_files() -> None:
    assert to_url("/dev/video2") == "v4l2:///dev/video2"
    assert to_url("/dev/v4l/by-id/usb-A_1-video-index0") == "v4l2:///dev/v4l/by-id/usb-A_1-video-index0"
    assert parse_camera(f"a={to_url('/dev/v4l/by-path/a?b%1')}").place == "/dev/v4l/by-path/a?b%1"
    assert to_url("rtsp://host/x") == "rtsp://host/x"
    assert to_url("RTSP://Host/x") == "rtsp://Host/x"
    assert to_url("exec:cat /x") == "exec:cat /x"
    assert to_url("clip.mp4").startswith("file:///")
    assert to_url("a:b.mp4").startswith("file:///")
    assert to_url("http:clip.mp4").startswith("file:///")


def test_what_is_there_is_a_file_even_if_its_name_reads_as_a_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "exec:clip.mp4").touch()
    assert to_url("exec:clip.mp4") == f"file://{tmp_path}/exec%3Aclip.mp4"
    assert to_url("exec:other.mp4") == "exec:other.mp4"
    assert to_url("exec:" + "x" * 5000).startswith("exec:")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("test://", "camera name"),
        ("Front=test://", "'Front'"),
        ("forward=test://", "cannot be named 'forward'"),
        ("detect=test://", "cannot be named 'detect'"),
        ("a=ftp://host/x", "starts with none of"),
        ("a=rstp://host/x", "did you mean rtsp?"),
        ("a=/dev/video0", "starts with none of"),
        ("a=test://,a=csi://0", "two cameras are named 'a'"),
        ("a=test://?fps=fast", "fps=fast"),
        ("a=test://?fps=nan", "fps=nan"),
        ("a=file:///x?size=1280", "size=1280"),
        ("a=file:///x?size=0x0", "size=0x0"),
        ("a=file:///x?rotate=45", "rotate=45"),
        ("a=file:///x?paced=1&loop=1", "plays once"),
        ("a=test://?paced=1", "test takes no paced"),
        ("a=exec:cam ?size=9x9", "size=9x9"),
        ("a=exec:cam ?speed=9", "exec takes no option 'speed'; there are format, fps, "),
        ("a=test://?quality=85.5", "quality=85.5"),
        ("a=test://?quality=-1", "quality=-1"),
        ("a=file:///x?threads=1e1", "threads=1e1"),
        ("a=exec:cam ?format=png", "multipart, jpeg or y4m"),
        ("a=exec:cam 'open", "cannot be split"),
        ("a=exec:", "wants a command"),
        ("a=rpicam://0?rotate=90", "180"),
        ("a=file:///x%00.mp4", "%00"),
    ],
)
def test_bad_camera_is_named_with_what_is_wrong(text: str, said: str) -> None:
    assert said in refusal(text)


MISSPELT = {
    "a=file:///x.mp4?pace=1": "file takes no option 'pace', did you mean paced? there are format, fps, ",
    "a=v4l2:///dev/video0?rotat=90": "v4l2 takes no option 'rotat', did you mean rotate?",
    "a=csi://0?sise=640x480": "csi takes no option 'sise', did you mean size?",
    "a=rpicam://0?fsp=5": "rpicam takes no option 'fsp', did you mean fps?",
    "a=test://?qualty=9": "test takes no option 'qualty', did you mean quality?",
    "a=exec:cam ?formt=jpeg": "exec takes no option 'formt', did you mean format?",
    "a=rtsp://host/x?trasnport=udp": "rtsp takes no option 'trasnport', did you mean transport?",
    "a=rtsps://host/x?tls_verfy=0": "rtsps takes no option 'tls_verfy', did you mean tls_verify?",
    "a=http://host/x?rotates=90": "if the camera wants it, write it as %72otates",
    "a=https://host/x?ca_fils=/x": "https takes no option 'ca_fils', did you mean ca_file?",
    "a=mqtt://host/x?quiet=9": "mqtt takes no option 'quiet', did you mean quiet_s?",
    "a=mqtts://host/x?tls_sha265=9": "mqtts takes no option 'tls_sha265', did you mean tls_sha256?",
}


@pytest.mark.parametrize("text", MISSPELT)
def test_a_misspelt_option_is_named_with_the_one_that_was_meant(text: str) -> None:
    assert MISSPELT[text] in refusal(text)


def test_every_scheme_refuses_what_is_none_of_its_options() -> None:
    assert {parse_camera_scheme(text) for text in MISSPELT} == set(SCHEMES)
    assert "a '?' in a name is written as %3F" in refusal("a=file:///what?now.mp4")
    assert "paced" not in refusal("a=v4l2:///dev/video0?pace=1")


def parse_camera_scheme(text: str) -> str:
    return text.partition("=")[2].partition(":")[0]


def test_a_cameras_own_words_stay_in_its_address() -> None:
    own = "channel=1&subtype=0&transportmode=unicast&rotation=90&rate=5&fp=1&resolution=1&t=1&mode=x&pace=1"
    assert parse_camera(f"a=rtsp://host/live?{own}&rotate=90").url == f"rtsp://host/live?{own}"
    assert parse_camera(f"a=http://host/live?%73ize=1&{own}").url == f"http://host/live?%73ize=1&{own}"


def test_no_password_is_repeated() -> None:
    assert "secret" not in refusal("a=rtsp://u:secret@host/x?size=no")
    assert "secret" not in refusal("a=ftp://u:secret@host/x")
    assert "secret" not in refusal("a=mqtt://u:a?secret=b@host/x")


def test_what_is_never_looked_at_stands_among_a_cameras_options() -> None:
    yard, street = parse_cameras(
        "yard=rtsp://host/live?mask=0,0,0.5,0,0.5,1&min_face_px=80,street=test://?mask=0,0,1,0,1,1;0,0,0,1,1,1"
    )
    assert yard.options.scope == Scope((((0, 0), (5_000, 0), (5_000, 10_000)),), 80)
    assert yard.url == "rtsp://host/live"
    assert len(street.options.mask) == 2


def test_masks_add_up_and_no_other_option_may_be_given_twice() -> None:
    assert len(options("a=test://?mask=0,0,1,0,1,1&mask=0,0,0,1,1,1").mask) == 2
    assert "twice" in refusal("a=test://?fps=1&fps=2")
    many = "&".join(["mask=0,0,1,0,1,1"] * 17)
    assert "at most 16" in refusal(f"a=test://?{many}")


@pytest.mark.parametrize("mask", ["", "0,0,1,0", "0,0,2,0,1,1", "left"])
def test_a_mask_that_hides_nothing_is_refused_at_start(mask: str) -> None:
    assert "is not a polygon" in refusal(f"a=test://?mask={mask}")


@pytest.mark.parametrize("scheme", ["csi://0", "rpicam://0", "exec:cmd", "file:///x", "v4l2:///dev/video0"])
def test_every_source_may_have_a_mask(scheme: str) -> None:
    separator = " ?" if scheme.startswith("exec") else "?"
    assert options(f"a={scheme}{separator}mask=0,0,1,0,1,1").mask
