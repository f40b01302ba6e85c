"""Sealed faces in the gallery: a lock, or the picture where it was given the key."""

from pathlib import Path

import pytest

from services.common.sealing import age
from services.common.sealing.age import Label
from services.common.sealing.keys import read_recipient
from services.common.wire import envelope, faces
from services.common.wire.faces import Face
from services.store.admission import to_object
from tests.seeing import CAMERAS, NOON, fill, visiting_folder
from tests.storing import jpeg

IDENTITY, RECIPIENT = age.new_identity()
OTHER_IDENTITY, _ = age.new_identity()


def sealed_face(said: str = "1,2,3,4") -> Face:
    """A face that is sealed with one box, of which another may be said."""
    known = {"box": "1,2,3,4", "score": "0.912", envelope.INSIDE: "image/jpeg"}
    label = Label(CAMERAS[0], NOON, known)
    data = age.seal(jpeg(), [read_recipient(RECIPIENT)], label)
    return faces.mint(CAMERAS[0], NOON, data, envelope.CONTENT_TYPE, {**known, "box": said})


@pytest.mark.parametrize(
    ("identity", "said", "is_shown"),
    [
        (None, "1,2,3,4", False),
        (IDENTITY, "1,2,3,4", True),
        (OTHER_IDENTITY, "1,2,3,4", False),
        (IDENTITY, "9,9,9,9", False),
    ],
    ids=["no key", "the key", "another key", "swapped metadata"],
)
async def test_a_sealed_face_is_a_lock_unless_the_gallery_has_its_key(
    tmp_path: Path, identity: str | None, said: str, *, is_shown: bool
) -> None:
    face = sealed_face(said)
    fill(tmp_path / "faces", [face])
    given = {} if identity is None else {"gallery_seal_identity": identity}
    async with visiting_folder(tmp_path / "faces", **given) as client:
        async with client.get(f"/image/{to_object(face).key}") as answer:
            assert answer.status == 200
            body, kind = await answer.read(), answer.content_type
        assert (kind, body == jpeg()) == (("image/jpeg", True) if is_shown else ("image/svg+xml", False))
        async with client.get(f"/face/{to_object(face).key}") as answer:
            page = await answer.text()
        assert "91.2 %" in page  # what is known of it is shown either way
        async with client.get("/") as answer:
            assert f"/face/{to_object(face).key}" in await answer.text()
