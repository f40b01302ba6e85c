import hashlib
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.common.errors import Refused
from services.common.sealing import age
from services.common.sealing.age import CannotOpen, Label
from services.common.sealing.keys import read_identities, read_recipient
from services.common.storage import sidecar
from services.common.wire import envelope, faces
from services.common.wire.topics import Source
from services.detect.finishing import finish
from services.detect.settings import DetectSettings
from services.forward.receiver import admit as forward_admit
from services.store.admission import admit as store_admit
from tests.storing import PORCH, TIME, jpeg, with_attribute

# Made by age-keygen's own rules; not in use.
IDENTITY, RECIPIENT = age.new_identity()
OTHER_IDENTITY, OTHER_RECIPIENT = age.new_identity()
KEYS, OTHER_KEYS = read_identities(IDENTITY), read_identities(OTHER_IDENTITY)
LABEL = Label(PORCH, TIME, {"box": "1,2,3,4", "score": "0.912", "visit": "v"})


def sealed_for(*recipients: str, picture: bytes = jpeg(), label: Label = LABEL, secret: bytes = b"") -> bytes:
    return age.seal(picture, [read_recipient(each) for each in recipients], label, secret)


def detect_settings(**changes: Any) -> DetectSettings:
    return DetectSettings(device="porch", **changes)


def face(**changes: Any) -> faces.Face:
    known = {
        "box": "1,2,3,4",
        "landmarks": "1,2",
        "score": "0.9",
        "visit": "v",
        "quality": "0.5",
        "clock": "x",
    }
    return finish(detect_settings(**changes), PORCH, TIME, jpeg(), "image/jpeg", known=known)


@settings(max_examples=60)
@given(
    picture=st.binary(max_size=300)
    | st.sampled_from([os.urandom(n) for n in (65_535, 65_536, 65_537, 200_000)])
)
def test_what_was_sealed_is_what_is_opened(picture: bytes) -> None:
    data = sealed_for(RECIPIENT, OTHER_RECIPIENT, picture=picture)
    for keys in (KEYS, OTHER_KEYS, [*OTHER_KEYS, *KEYS]):
        assert age.open_sealed(data, keys, LABEL) == picture


def test_the_same_picture_is_sealed_the_same_and_any_other_otherwise() -> None:
    data = sealed_for(RECIPIENT)
    assert data == sealed_for(RECIPIENT)
    later = Label(PORCH, TIME.replace(microsecond=8), LABEL.attributes)
    elsewhere = Label(Source("porch", "yard"), TIME, LABEL.attributes)
    others = [
        sealed_for(RECIPIENT, picture=jpeg(1)),
        sealed_for(OTHER_RECIPIENT),
        sealed_for(RECIPIENT, label=later),
        sealed_for(RECIPIENT, label=elsewhere),
        sealed_for(RECIPIENT, secret=b"a secret of ours"),
    ]
    assert len({data, *others}) == 6
    # Nothing that was derived is used for two pictures.
    assert len({each[len(envelope.header_of(each)) :][:16] for each in (data, *others)}) == 6


def test_what_is_said_of_a_visit_is_not_sealed_for_it_may_differ_the_next_time() -> None:
    again = Label(PORCH, TIME, {**LABEL.attributes, "visit": "w", "shot": "2", "why": "better"})
    assert sealed_for(RECIPIENT) == sealed_for(RECIPIENT, label=again)


def test_a_wrong_key_is_said_in_words() -> None:
    with pytest.raises(CannotOpen, match="other keys"):
        age.open_sealed(sealed_for(RECIPIENT), OTHER_KEYS)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"source": Source("porch", "yard")}, "its camera is not"),
        ({"time": datetime(2026, 1, 1, tzinfo=UTC)}, "its time is not"),
        ({"attributes": {"box": "1,2,3,5", "score": "0.912"}}, "known of the face .* is not"),
        ({"attributes": {}}, "known of the face .* is not"),
    ],
)
def test_swapped_metadata_is_said_in_words(change: dict[str, Any], words: str) -> None:
    given_label: dict[str, Any] = {
        "source": LABEL.source,
        "time": LABEL.time,
        "attributes": LABEL.attributes,
        **change,
    }
    with pytest.raises(CannotOpen, match=words):
        age.open_sealed(sealed_for(RECIPIENT), KEYS, Label(**given_label))


@settings(max_examples=300)
@given(st.data())
def test_a_file_that_was_cut_or_changed_is_never_taken_for_whole(data: st.DataObject) -> None:
    whole = sealed_for(RECIPIENT, picture=bytes(70_000))
    if data.draw(st.booleans()):
        changed = whole[: data.draw(st.integers(0, len(whole) - 1))]
    else:
        at = data.draw(st.integers(0, 600) | st.integers(0, len(whole) - 1))
        changed = whole[:at] + bytes([whole[at] ^ data.draw(st.integers(1, 255))]) + whole[at + 1 :]
    with pytest.raises(CannotOpen):
        age.open_sealed(changed, KEYS, LABEL)


def test_base64_that_spells_the_same_bytes_otherwise_is_refused() -> None:
    whole = sealed_for(RECIPIENT)
    end = whole.index(b"\n", whole.index(b"--- "))
    letters = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    unused_bit_set = letters[letters.index(whole[end - 1]) | 1]
    assert unused_bit_set != whole[end - 1]
    with pytest.raises(CannotOpen):
        age.open_sealed(whole[: end - 1] + bytes([unused_bit_set]) + whole[end:], KEYS)


@settings(max_examples=300)
@given(st.binary(max_size=400), st.binary(max_size=200))
def test_whatever_comes_is_opened_or_not_without_ado(head: bytes, body: bytes) -> None:
    for data in (head, envelope.INTRO + head + body, sealed_for(RECIPIENT)[:80] + head):
        with pytest.raises(CannotOpen):
            age.open_sealed(data, KEYS)
        with pytest.raises(Refused):
            envelope.check(data, {"sealed": "image/jpeg"})


def test_keys_are_those_of_age() -> None:
    """The private key of C2SP's test suite for X25519."""
    identity = "AGE-SECRET-KEY-1EGTZVFFV20835NWYV6270LXYVK2VKNX2MMDKWYKLMGR48UAWX40Q2P2LM0"
    (key,) = read_identities(f"# made for tests\n{identity}\n")
    assert len(key) == 32
    for wrong in (
        "",
        "age1",
        IDENTITY,
        RECIPIENT[:-1] + ("q" if RECIPIENT[-1] != "q" else "p"),
        RECIPIENT.title(),
    ):
        with pytest.raises(ValueError, match="a public key such as"):
            read_recipient(wrong)
    with pytest.raises(ValueError, match="a private key such as"):
        read_identities(RECIPIENT)
    with pytest.raises(ValueError, match="no private key"):
        read_identities("# nothing\n")


def test_age_itself_opens_what_we_seal_and_the_other_way_round() -> None:
    pyrage = pytest.importorskip("pyrage", reason="pyrage, another implementation of age, is not installed")
    identity = pyrage.x25519.Identity.from_str(IDENTITY)
    assert str(identity.to_public()) == RECIPIENT
    for size in (0, 20_000, 65_536, 200_000):
        picture = os.urandom(size)
        assert pyrage.decrypt(sealed_for(RECIPIENT, OTHER_RECIPIENT, picture=picture), [identity]) == picture
        theirs = pyrage.encrypt(picture, [identity.to_public()])
        assert age.open_sealed(theirs, KEYS) == picture
        if size:
            envelope.check(theirs, {"sealed": "image/jpeg"})


def test_a_sealed_face_is_taken_by_forward_and_store_and_its_id_names_what_is_sealed() -> None:
    one = face(seal_to=RECIPIENT)
    assert (one.content_type, one.extensions["sealed"]) == ("application/x-age", "image/jpeg")
    assert one.id == face(seal_to=RECIPIENT).id
    assert one.id.endswith(hashlib.sha256(b"porch/front\n" + one.image).hexdigest()[:32])
    message = faces.encode_face(one)
    assert forward_admit(message, "porch", TIME) == one
    item = store_admit(message, TIME, 100_000).item
    assert item.key.endswith(f"{one.id}.age")
    assert jpeg() not in item.body
    assert age.open_sealed(item.body, KEYS, Label(PORCH, TIME, item.metadata)) == jpeg()


@pytest.mark.parametrize(
    "change", [{"image": jpeg()}, {"image": b"age-encryption.org/v1\n"}, {"inside": "text/html"}]
)
def test_what_only_claims_to_be_sealed_is_refused(change: dict[str, Any]) -> None:
    one = face(seal_to=RECIPIENT)
    image = change.get("image", one.image)
    message = faces.encode_face(faces.mint(PORCH, TIME, image, one.content_type, one.extensions))
    if "inside" in change:
        message = with_attribute(message, "sealed", change["inside"])
    for check in (lambda: forward_admit(message, "porch", TIME), lambda: store_admit(message, TIME, 100_000)):
        with pytest.raises(Refused) as caught:
            check()
        assert caught.value.reason in ("not_sealed", "bad_content_type")


def test_what_was_measured_is_left_out_where_that_is_wanted() -> None:
    assert "landmarks" in face().extensions
    assert face(metadata="plain").extensions.keys() == face().extensions.keys() - {"landmarks"}
    assert face(metadata="none").extensions.keys() == {"visit", "quality", "clock"}
    assert face(metadata="none", seal_to=RECIPIENT).extensions.keys() == {
        "visit",
        "quality",
        "clock",
        "sealed",
    }


def test_a_sealed_face_fits_where_one_was_to_fit() -> None:
    for size in (100, 65_536, 1_000_000):
        data = sealed_for(RECIPIENT, OTHER_RECIPIENT, picture=bytes(size))
        assert len(data) - size <= envelope.most_growth_bytes(size, 2)


def test_faceferry_opens_what_lies_in_a_folder(tmp_path: Path) -> None:
    one = face(seal_to=RECIPIENT)
    item = store_admit(faces.encode_face(one), TIME, 100_000).item
    path = tmp_path / "faces" / item.key
    path.parent.mkdir(parents=True)
    path.write_bytes(item.body)
    path.with_suffix(".json").write_bytes(sidecar.write(item.content_type, item.metadata))
    keys = tmp_path / "key"
    keys.write_text(IDENTITY)
    out = tmp_path / "out"
    out.mkdir()
    told = run_open(str(path), "--identity", str(keys), "--to", str(out))
    assert told.returncode == 0, told.stdout + told.stderr
    assert (out / f"{one.id}.jpg").read_bytes() == jpeg()
    keys.write_text(OTHER_IDENTITY)
    assert "other keys" in run_open(str(path), "--identity", str(keys), "--to", str(out)).stdout
    keys.write_text(IDENTITY)
    path.with_suffix(".json").write_bytes(
        sidecar.write(item.content_type, {**item.metadata, "box": "9,9,9,9"})
    )
    told = run_open(str(path), "--identity", str(keys), "--to", str(out))
    assert (told.returncode, "is not what it was sealed with" in told.stdout) == (1, True)
    path.write_bytes(item.body[:-1])
    assert "was changed" in run_open(str(path), "--identity", str(keys), "--to", str(out)).stdout


def test_a_key_is_made_for_its_owner_alone(tmp_path: Path) -> None:
    told = run_open("--new-key", str(tmp_path / "key"))
    assert read_recipient(told.stdout.strip())
    assert (tmp_path / "key").stat().st_mode & 0o777 == 0o600
    assert read_identities((tmp_path / "key").read_text())


def run_open(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "services.cli", "open", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
