"""What opens a camera is never said, in whichever part of its address it stands."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from services.capture.cameras import parse_camera, parse_cameras
from services.capture.source.redaction import redact, secrets_of, shown
from services.capture.source.watch import StderrTail
from services.common.errors import SetupError

HIDDEN = "Zq7xT"
odd = st.text(st.sampled_from("a@:/?#[]!$&'()*+,;=%25 \"<>\\^`{|}~_-.é"), max_size=6)
hosts = st.sampled_from(["10.0.0.7", "cam.lan:554", "[fd00::1]:8554", "cam"])


def credentials(before: str, after: str, host: str) -> str:
    return f"rtsp://admin:{before}{HIDDEN}{after}@{host}/live"


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("rtsp://admin:Zq7xT@10.0.0.7:554/live", "rtsp://***@10.0.0.7:554/***"),
        ("rtsp://10.0.0.7/user=admin_password=Zq7xT_channel=1.sdp", "rtsp://10.0.0.7/***"),
        ("rtsps://nvr:7441/Zq7xT?enableSrtp", "rtsps://nvr:7441/***"),
        ("http://cam/x.cgi?user=a&pwd=Zq7xT", "http://cam/***"),
        ("http://cam?token=Zq7xT", "http://cam/***"),
        ("rtsp://[fd00::1]:8554/Zq7xT", "rtsp://[fd00::1]:8554/***"),
        ("rtsp://10.0.0.7", "rtsp://10.0.0.7"),
        ("rtsp://10.0.0.7/", "rtsp://10.0.0.7"),
        ("rtsp://admin:p/Zq7xT@10.0.0.7/live", "rtsp://***"),
        ("rtsp://10.0.0.7/live/a@Zq7xT", "rtsp://***"),
        ("rtsp://Zq7xT@10.0.0.7/", "rtsp://***@10.0.0.7"),
        ("exec:camera --password Zq7xT", "exec:camera ***"),
        ("exec:camera", "exec:camera"),
        ("file:///clips/a.mp4", "file:///clips/a.mp4"),
        ("v4l2:///dev/video0", "v4l2:///dev/video0"),
    ],
)
def test_of_an_address_on_a_network_scheme_and_host_are_shown(url: str, said: str) -> None:
    assert shown(url) == said
    assert redact(f"{url}: 401", url) == f"{said}: 401"


@given(odd, odd, hosts)
@example("p@ss/", "", "10.0.0.7")
@example("pa ", "'\"", "10.0.0.7")
@example("p#", "?", "cam")
def test_a_password_of_any_characters_is_never_said(before: str, after: str, host: str) -> None:
    url = credentials(before, after, host)
    words = StderrTail(url)
    words.add(f"[error] {url}: 401\n[error] method DESCRIBE of {url.rpartition('@')[2]} failed".encode())
    for text in (shown(url), redact(f"cannot open {url} now", url), redact(url, url), str(words)):
        assert HIDDEN not in text


@given(
    odd, st.sampled_from(["/user=admin_password={}_channel=1.sdp", "/{}", "/x?a=1&pwd={}&b=2", "?token={}"])
)
def test_nor_is_one_in_a_path_or_a_query(before: str, shape: str) -> None:
    url = f"http://cam.lan{shape.format(before + HIDDEN)}"
    for text in (
        shown(url),
        redact(f"GET {url}: 404", url),
        redact(f"GET {url.removeprefix('http:')} 404", url),
    ):
        assert HIDDEN not in text


def test_the_secret_alone_is_hidden_in_each_spelling() -> None:
    url = "rtsp://admin:%5aq7x%54@cam/user=a_password=S3same_channel=1?token=T0ken&x=1"
    said = f"{HIDDEN} and %5aq7x%54, S3same, T0ken"
    assert redact(said, url) == "*** and ***, ***, ***"
    assert secrets_of("file:///clips/password=x") == ()


def test_addresses_of_others_are_cut_too() -> None:
    said = "Redirecting to 'rtsp://u:Zq7xT@other/a?b' and http://x/Zq7xT"
    assert redact(said) == "Redirecting to 'rtsp://***@other/***' and http://x/***"


def test_a_line_without_an_end_is_not_cut_within_an_address() -> None:
    url = credentials("", "", "cam")
    words = StderrTail(url)
    for _ in range(300):
        words.add(f"[error]{url}".encode())
        assert HIDDEN not in str(words)


@pytest.mark.parametrize(
    "text",
    [
        "rtsp://admin:Zq7xT@host/live",
        "rtsp://admin:Zq7xT@host/live?size=1x1",
        "Front=rtsp://admin:Zq7xT@host/live",
        "a=rtsp:/admin:Zq7xT@host/live",
        "a=rtsp://admin:Zq7xT@host/live?fps=x",
        "a=rtsp://admin:Zq7xT@host/live?paced=1",
        "a=rtsp://admin:Zq7xT@host/%00",
        "a=exec:camera --password Zq7xT '",
        "a=exec:camera --password Zq7xT ?x=1",
        "a=rtsp://u:Zq7xT@host/a,a=rtsp://u:Zq7xT@host/b",
    ],
)
def test_what_is_wrong_with_a_setting_is_said_without_its_secrets(text: str) -> None:
    with pytest.raises(SetupError) as caught:
        parse_cameras(text)
    assert HIDDEN not in str(caught.value)


def test_a_camera_may_be_shown_by_a_caller_that_shows_everything() -> None:
    assert HIDDEN not in repr(parse_camera(f"a=rtsp://admin:{HIDDEN}@host/live"))
