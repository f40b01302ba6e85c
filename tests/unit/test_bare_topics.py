import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.common.errors import Refused
from services.common.wire.bare_topics import (
    camera_of,
    check_apart,
    find_source,
    is_match,
    overlap,
    parse,
    to_name,
)
from services.common.wire.topics import RESERVED_CAMERAS, Source, is_name

UNKNOWN = Source("unknown", "unknown")

levels = st.sampled_from(["a", "b", "faces"])
topics = st.lists(levels, min_size=1, max_size=4).map("/".join)
filters = st.tuples(
    st.lists(st.one_of(levels, st.just("+")), min_size=1, max_size=4), st.sampled_from([[], ["#"]])
).map(lambda parts: "/".join(parts[0] + parts[1]))


@pytest.mark.parametrize(
    ("pattern", "topic_filter", "topic", "source"),
    [
        ("test_topic", "test_topic", "test_topic", UNKNOWN),
        ("cam/{camera}/faces", "cam/+/faces", "cam/front/faces", Source("unknown", "front")),
        ("{device}/{camera}/snapshot", "+/+/snapshot", "hall/yard/snapshot", Source("hall", "yard")),
        ("cam/+/faces", "cam/+/faces", "cam/front/faces", UNKNOWN),
        ("faces=front", "faces", "faces", Source("unknown", "front")),
        ("hall/faces=hall/front", "hall/faces", "hall/faces", Source("hall", "front")),
        ("{device}/cams/#", "+/cams/#", "Hall A/cams/1/2", Source("hall-a", "unknown")),
        ("{device}/faces=door", "+/faces", "hall/faces", Source("hall", "door")),
    ],
)
def test_a_pattern_names_what_its_topic_says(
    pattern: str, topic_filter: str, topic: str, source: Source
) -> None:
    assert parse(pattern).filter == topic_filter
    assert is_match(topic_filter, topic)
    assert find_source([parse("elsewhere=no"), parse(pattern)], topic, UNKNOWN) == source


@pytest.mark.parametrize(
    "text",
    ["", "a/{camera}x", "{camera}/{camera}", "{Camera}", "a+/b", "#/a", "a/#/b", "$SYS/a", "a\nb", "=front"],
)
def test_what_is_no_pattern_is_said(text: str) -> None:
    if text == "=front":  # a topic may be called so
        assert parse(text).filter == text
        return
    with pytest.raises(ValueError, match="topic filter"):
        parse(text)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Front_Door", "front-door"),
        ("Haust\u00fcr 2", "haustur-2"),
        ("forward", "forward-camera"),
        ("detect", "detect-camera"),
        ("__", None),
        ("\u9580", None),
        ("x" * 100, "x" * 63),
    ],
)
def test_names_from_elsewhere_become_names(text: str, name: str | None) -> None:
    assert to_name(text) == name


@given(st.text())
def test_whatever_it_was_a_name_is_a_name(text: str) -> None:
    name = to_name(text)
    assert name is None or (is_name(name) and name not in RESERVED_CAMERAS)


def test_a_topic_without_a_letter_names_no_camera() -> None:
    assert camera_of("edge/Face 1") == "edge-face-1"
    with pytest.raises(Refused, match="bad_topic"):
        camera_of("\u9580/_")


@given(filters, filters, topics)
def test_filters_that_match_the_same_topic_overlap(one: str, other: str, topic: str) -> None:
    assert overlap(one, other) == overlap(other, one)
    if is_match(one, topic) and is_match(other, topic):
        assert overlap(one, other)


@given(filters, topics)
def test_a_topic_is_a_filter_that_overlaps_what_matches_it(one: str, topic: str) -> None:
    assert overlap(one, topic) == is_match(one, topic)


@pytest.mark.parametrize(
    "text", ["#", "+/+/+/face", "faceferry/#", "faceferry/{device}/{camera}/face", "+/#"]
)
def test_a_filter_that_takes_our_own_messages_for_images_is_said(text: str) -> None:
    with pytest.raises(ValueError, match="own"):
        check_apart([parse(text)])


def test_filters_that_would_bring_an_image_twice_are_said() -> None:
    with pytest.raises(ValueError, match="twice"):
        check_apart([parse("cam/{camera}/faces"), parse("cam/front/+")])
    check_apart([parse("cam/{camera}/faces"), parse("{device}/{camera}/snapshot"), parse("test_topic")])
