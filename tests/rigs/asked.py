"""What detect asks forward about the people in a clip, and what it is told."""

import asyncio
import contextlib
import tempfile
from dataclasses import dataclass
from pathlib import Path

from services.common.mqtt import Broker, Link
from services.common.wire.seen import Seen, Why, decode_seen
from services.forward.visits.camera_visits import CameraVisits, VisitRules
from services.forward.visits.quality import quality
from tests.rigs.pipeline import running


@dataclass(frozen=True, slots=True)
class Moment:
    """A visit's face in one frame.

    Attributes:
        visit: its id.
        at_s: when, from the clip's start.
        quality: of the picture it would make, 0..1.
        why: it is wanted, if it is.
    """

    visit: str
    at_s: float
    quality: float
    why: Why | None


def watch(clip: Path) -> list[Moment]:
    """Play a clip through all of it; return what was seen, and which of it was wanted."""
    visits, moments = CameraVisits(), []
    questions = sorted(asyncio.run(_questions(clip.absolute().as_uri())), key=lambda seen: seen.sequence)
    for seen in questions:
        # The same questions get the same answers: so which visit a face is of can be had, too.
        whys = {each.index: each.why for each in visits.look(seen, VisitRules())}
        at_s = (seen.time - questions[0].time).total_seconds()
        for index, sight in enumerate(seen.view.faces):
            rated = quality(sight, seen.view.width, seen.view.height)
            moments.append(Moment(visits.visit_at(sight.box), at_s, rated, whys.get(index)))
    return moments


async def _questions(clip: str) -> list[Seen]:
    """Return what detect asks forward about the frames of a clip, a URL."""
    asked: dict[int, Seen] = {}
    with tempfile.TemporaryDirectory(prefix="faceferry-") as made:
        folder = Path(made)
        with running(
            folder / "run", (f"front={clip}?paced=1",), f"file://{folder / 'faces'}", keep="visits"
        ) as rig:
            local, topics = Broker(rig.plan.local_url), ["faceferry/+/front/seen"]
            async with Link("local", local, identity="timeline", subscriptions=topics) as link:
                finishing = asyncio.create_task(asyncio.to_thread(rig.finish))
                while not finishing.done():
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(0.2):
                            seen = decode_seen((await anext(link)).message)
                            asked[seen.sequence] = seen
                await finishing
    return list(asked.values())
