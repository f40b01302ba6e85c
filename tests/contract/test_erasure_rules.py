"""Orders to erase and reports on the cloud's broker, as compose has it: each reads and writes its own."""

from contextlib import AsyncExitStack
from pathlib import Path

from services.common.mqtt import Link
from services.common.wire.message import Message
from tests.cloud_broker import CloudBroker, running_cloud_broker

EVERYTHING = ["faceferry/+/erase/+", "faceferry/+/erased/+", "faceferry/+/forward/status"]
NAMES = ["porch", "lobby", "_store", "_gallery"]


async def test_only_the_store_orders_and_only_a_device_itself_reads_its_orders_and_reports(
    tmp_path: Path,
) -> None:
    with running_cloud_broker(tmp_path) as broker:
        async with AsyncExitStack() as stack:
            links = {name: await stack.enter_async_context(link_of(broker, name)) for name in NAMES}
            for link in links.values():
                await link.wait_up()
            for name, link in links.items():
                for topic in ("erase/1", "erased/1", "forward/status"):
                    link.publish(
                        Message(topic=f"faceferry/porch/{topic}", payload=f"{name} {topic}".encode(), qos=1)
                    )
            for name in ("porch", "lobby"):  # behind it all
                end = Message(topic=f"faceferry/{name}/erase/end", payload=b"end", qos=1)
                links["_store"].publish(end)
            links["porch"].publish(Message(topic="faceferry/porch/forward/status", payload=b"end", qos=1))
            heard = {name: await until_end(links[name]) for name in ("porch", "_store", "_gallery")}
            assert await until_end(links["lobby"]) == set()
            assert heard == {
                "porch": {"_store erase/1"},
                "_store": {"porch erased/1", "porch forward/status"},
                "_gallery": {"porch forward/status"},
            }


def link_of(broker: CloudBroker, name: str) -> Link:
    return Link("cloud", broker.known(name), identity=name, subscriptions=EVERYTHING)


async def until_end(link: Link) -> set[str]:
    heard: set[str] = set()
    async for delivery in link:
        delivery.acknowledge()
        if delivery.message.payload == b"end":
            break
        heard.add(delivery.message.payload.decode())
    return heard
