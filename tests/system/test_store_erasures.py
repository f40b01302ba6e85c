"""A store that knows what was erased: late ones stay out, devices are told, reports are kept."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

from services.common.erasure import entries, keys
from services.common.erasure.entries import EntryKind, LogEntry
from services.common.erasure.erasing import Eraser
from services.common.erasure.ledger import FOLDER, Ledger, name_of
from services.common.erasure.reports import Report, write_report
from services.common.erasure.selection import Selection, to_body
from services.common.mqtt import Broker, Link
from services.common.storage.backends import open_store
from services.common.storage.settings import ObjectStoreSettings
from services.common.wire import faces
from services.common.wire.faces import Face
from services.common.wire.message import Message
from services.common.wire.topics import Source
from tests.storing import PORCH, StoreProcess, images_in, jpeg, receipted
from tests.support import MosquittoServer, eventually

NOW = datetime.now(UTC)
PRIVATE = keys.make().decode()
PUBLIC = keys.public_of(PRIVATE).decode()
SIGN, VERIFY = keys.signer(PRIVATE)


def taken(minutes_ago: float, source: Source = PORCH) -> Face:
    return faces.mint(source, NOW - timedelta(minutes=minutes_ago), jpeg(), "image/jpeg", {})


@asynccontextmanager
async def erasing(url: str) -> AsyncIterator[tuple[Eraser, Ledger]]:
    async with open_store(ObjectStoreSettings(store_url=url)) as store:
        await store.verify()
        ledger = Ledger(store, VERIFY)
        yield Eraser(store, ledger, SIGN, settle_s=0.0), ledger


@asynccontextmanager
async def device(broker: MosquittoServer, name: str = "porch") -> AsyncIterator[Link]:
    async with Link(
        "cloud", Broker(broker.url), identity=name, subscriptions=[f"faceferry/{name}/erase/+"]
    ) as link:
        await link.wait_up()
        yield link


def online(link: Link, name: str = "porch") -> None:
    link.publish(Message(topic=f"faceferry/{name}/forward/status", payload=b"online", qos=1))


def store_process(broker: MosquittoServer, folder: Path, log: Path, **more: str) -> StoreProcess:
    return StoreProcess(
        broker.url, folder.as_uri(), log, FACEFERRY_ERASE_KEY=PUBLIC, FACEFERRY_STORE_ERASURES_S="0.1", **more
    )


async def test_what_was_erased_and_comes_late_is_refused_counted_and_never_stored(
    broker: MosquittoServer, edge: Link, tmp_path: Path
) -> None:
    folder = tmp_path / "faces"
    late, kept = [taken(30), taken(29), taken(28)], taken(1)
    async with erasing(folder.as_uri()) as (eraser, _):
        await eraser.order(Selection(ids=frozenset({late[0].id})))
        with store_process(broker, folder, tmp_path / "store.log") as store:
            await store.until_ready()
            edge.publish(faces.encode_face(late[0]))
            assert (await receipted(edge, 1)).refused == {late[0].id: "erased"}
            for face in (late[1], kept):
                edge.publish(faces.encode_face(face))
            assert (await receipted(edge, 2)).ids == {late[1].id, kept.id}
            order = await eraser.order(Selection(device="porch", until=NOW - timedelta(minutes=10)))
            await eventually(lambda: store.metric("faceferry_store_erasures") == 2)
            assert (await eraser.carry_out(order)).left == 0
            for face in late[1:]:
                edge.publish(faces.encode_face(face))
            assert (await receipted(edge, 2)).refused == {late[1].id: "erased", late[2].id: "erased"}
            assert [Path(key).stem for key in images_in(folder)] == [kept.id]
            assert store.metric("faceferry_store_refused_total") == 3
        with store_process(broker, folder, tmp_path / "again.log") as store:
            await store.until_ready()
            edge.publish(faces.encode_face(late[2]))
            assert (await receipted(edge, 1)).refused == {late[2].id: "erased"}


async def test_a_device_is_told_when_it_comes_and_what_it_reports_is_kept(
    broker: MosquittoServer, tmp_path: Path
) -> None:
    folder = tmp_path / "faces"
    async with erasing(folder.as_uri()) as (eraser, ledger), device(broker) as porch:
        order = await eraser.order(Selection(device="porch", until=NOW))
        await eraser.order(Selection(device="lobby", until=NOW))
        with store_process(broker, folder, tmp_path / "store.log") as store:
            await store.until_ready()
            await eventually(lambda: "cloud_erasures" in store.output)
            online(porch)
            told = (await anext(porch)).message
            assert (told.topic, told.payload) == (f"faceferry/porch/erase/{order.name}", order.line)
            async with device(broker) as later:  # the broker keeps it
                assert (await anext(later)).message.retain
            report = Report(order.name, "porch", {"waiting": 2})
            for topic, payload in (
                (f"faceferry/porch/erased/{order.name}", b"{}"),
                (f"faceferry/porch/erased/{'0' * 32}", write_report(Report("0" * 32, "porch", {}))),
                (f"faceferry/lobby/erased/{order.name}", write_report(report)),
                (f"faceferry/porch/erased/{order.name}", write_report(report)),
            ):
                porch.publish(Message(topic=topic, payload=payload, qos=1))
            assert (await anext(porch)).message.payload == b""  # it need not be kept any more
            await eventually(lambda: store.metric("faceferry_store_erasure_reports_total") == 1)
            assert store.metric("faceferry_store_erasure_refused_total") == 3
            online(porch)
        assert await eraser.take_reports() == 3  # one device, and the store itself about both orders
        reported = [entry.about for entry in await ledger.entries() if entry.kind is EntryKind.REPORTED]
        assert {"of": order.name, "device": "porch", "gone": {"waiting": 2}} in reported


async def test_what_is_not_of_the_key_is_no_order(
    broker: MosquittoServer, edge: Link, tmp_path: Path
) -> None:
    folder = tmp_path / "faces"
    face = taken(1)
    async with erasing(folder.as_uri()) as (eraser, _):
        forged, _ = keys.signer(keys.make().decode())
        line = entries.write(
            None, NOW, EntryKind.ORDERED, to_body(Selection(device="porch", until=NOW)), forged
        )
        await write(eraser, line)
        with store_process(broker, folder, tmp_path / "store.log") as store:
            await store.until_ready()
            edge.publish(faces.encode_face(face))
            assert (await receipted(edge, 1)).ids == {face.id}
            assert store.metric("faceferry_store_erasure_refused_total") == 1
            # Whoever can add a line cannot hide those that follow it.
            good = entries.write(
                line, NOW, EntryKind.ORDERED, to_body(Selection(device="porch", until=NOW)), SIGN
            )
            await write(eraser, good)
            await eventually(lambda: store.metric("faceferry_store_erasures") == 1)


async def write(eraser: Eraser, line: LogEntry) -> None:
    await eraser._store.keep(f"{FOLDER}/{name_of(line.number)}", line.line)


async def test_a_store_that_cannot_know_what_was_erased_stores_nothing(
    broker: MosquittoServer, edge: Link, tmp_path: Path
) -> None:
    folder = tmp_path / "faces"
    async with erasing(folder.as_uri()) as (eraser, _):
        await eraser.order(Selection(device="porch", until=NOW - timedelta(minutes=10)))
    line = folder / FOLDER / name_of(1)
    line.rename(aside := tmp_path / "aside")
    line.mkdir()  # what is no file cannot be read
    face = taken(30)
    with store_process(broker, folder, tmp_path / "store.log") as store:
        await eventually(lambda: "store" in store.problems())
        edge.publish(faces.encode_face(face))
        await asyncio.sleep(1.0)
        assert images_in(folder) == {}
        line.rmdir()
        aside.rename(line)
        await store.until_ready()
        edge.publish(faces.encode_face(face))
        assert (await receipted(edge, 1)).refused == {face.id: "erased"}
