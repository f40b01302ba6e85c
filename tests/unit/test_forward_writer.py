import asyncio
from pathlib import Path

from services.common.message import Message
from services.forward.spool import Spool, prepare
from services.forward.spooled import SpooledFace
from services.forward.writer import Answers, Delete, SpoolWriter
from tests.support import eventually


async def test_every_copy_of_a_face_is_answered(tmp_path: Path) -> None:
    """Each has a delivery that holds one of the link's places until it is answered."""
    prepare(tmp_path / "spool")
    answered: list[int] = []
    answers = Answers(
        written=lambda faces: answered.extend(face.sequence for face in faces),
        full=lambda _: None,
        read=lambda _read, _faces: None,
    )
    writer = SpoolWriter(Spool(tmp_path / "spool", 1 << 20), 1 << 20)
    message = Message(topic="t", payload=b"x", content_type="image/jpeg")
    for sequence in range(1, 11):
        writer.put(SpooledFace(sequence, "the same", message))
    writer.put(SpooledFace(11, "stored meanwhile", message))
    writer.put(SpooledFace(12, "stored meanwhile", message))
    writer.put(Delete("stored meanwhile"))
    running = asyncio.create_task(writer.run(answers))
    await eventually(lambda: len(answered) == 12)
    assert sorted(answered) == list(range(1, 13))
    assert writer.state.faces == 1
    running.cancel()
    await asyncio.wait([running])
