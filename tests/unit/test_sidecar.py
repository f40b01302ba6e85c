import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.common.storage import sidecar

TEXTS = st.dictionaries(st.text("abcdefghij", min_size=1), st.text(max_size=40), max_size=5)


@given(
    TEXTS,
    st.dictionaries(st.sampled_from(["score", "shot", "box", "landmarks"]), st.text("0123456789.,-e%x ")),
)
def test_what_is_known_is_read_as_it_was_written_whatever_it_says_of_numbers(
    texts: dict[str, str], numbers: dict[str, str]
) -> None:
    content = sidecar.write("image/jpeg", {**texts, **numbers})
    assert content.endswith(b"\n")
    assert content.count(b"\n") == 1
    assert sidecar.read(content) == ("image/jpeg", {**texts, **numbers})


@pytest.mark.parametrize(
    ("name", "text", "number"),
    [
        ("score", "0.912", 0.912),
        ("score", "1", 1.0),
        ("sharpness", "-0.5", -0.5),
        ("shot", "2", 2),
        ("box", "-1,2,3,4", [-1, 2, 3, 4]),
        ("framesize", "640x480", [640, 480]),
        ("landmarks", "1,2,3,4,5,6,7,8,9,10.5", [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.5]),
    ],
)
def test_numbers_are_numbers_of_one_type_each(name: str, text: str, number: object) -> None:
    found = json.loads(sidecar.write("image/jpeg", {name: text}))[name]
    assert found == number
    assert repr(found) == repr(number)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("score", "91%"),
        ("score", "nan"),
        ("score", "1e999"),
        ("score", ""),
        ("shot", "1.5"),
        ("shot", "9" * 40),
        ("box", "10.5,20.25,64.0,64.0"),
        ("box", "1,2,3"),
        ("box", "1,2,3,4,"),
        ("framesize", "640*480"),
        ("landmarks", "n/a"),
    ],
)
def test_a_text_never_stands_where_numbers_do(name: str, text: str) -> None:
    about = json.loads(sidecar.write("image/jpeg", {name: text}))
    assert about == {"content_type": "image/jpeg", "metadata": {name: text}}
