"""A detect that sees somebody when it is told to, for tests of what forward makes of it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime

from services.common.mqtt import Broker, Link
from services.common.wire.faces import encode_face, mint
from services.common.wire.message import Message
from services.common.wire.seen import Seen, View, decode_wanted, encode_seen, wanted_topic
from services.common.wire.topics import Source
from tests.storing import jpeg
from tests.support import MosquittoServer
from tests.visits_rig import HEIGHT, WIDTH, sight


class Detect:
    """Sees who is before a camera, and says what capture says."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._number = 0

    def says(self, source: Source, state: bytes) -> None:
        topic = f"faceferry/{source}/status"
        self._link.publish(Message(topic=topic, payload=state, qos=1, retain=True))

    async def sees(self, source: Source) -> bytes:
        """Look at somebody; return the picture that was cut, if one was wanted."""
        self._number += 1
        at = datetime.now(UTC)
        answer_to = wanted_topic(source.device, "a1")
        view = View(WIDTH, HEIGHT, (sight(),))
        self._link.publish(encode_seen(Seen(source, self._number, at, view, answer_to, b"1")))
        wanted = decode_wanted((await anext(self._link)).message).wanted or ()
        for each in wanted:
            known = {"box": "1,2,3,4", "visit": each.visit, "shot": str(each.shot), "why": str(each.why)}
            face = mint(source, at, jpeg(self._number), "image/jpeg", known)
            self._link.publish(encode_face(face))
        return jpeg(self._number) if wanted else b""


@asynccontextmanager
async def detect(local: MosquittoServer) -> AsyncIterator[Detect]:
    topics = [wanted_topic("porch", "a1")]
    async with Link("local", Broker(local.url), identity="detect", subscriptions=topics) as link:
        await link.wait_up()
        yield Detect(link)
