"""Tests the store's subscription by messages to itself: a broker may grant one, and then deliver nothing."""

import asyncio
import secrets
import time
from collections.abc import Sequence

import structlog

from services.common.mqtt import NO_SUBSCRIBERS, Delivery, Link, LinkDown, PacketTooLarge
from services.common.wire import bare_topics
from services.common.wire.message import Message
from services.common.wire.topics import ROOT
from services.store.knock_schedule import KnockSchedule
from services.store.metrics import DEAF

TOPIC = f"{ROOT}/_knock/store/face"
"""A face's topic, so that the subscription to faces delivers it; no device can have this name."""
LOOK_EVERY_S = 0.5
SOON_S = 1.0
"""A connection that ends within this time after a knock may have ended because of it."""
SURE_AFTER = 3
"""After this many in a row it did: some brokers disconnect a client that publishes what it may not."""
MUTED_S = 3_600.0
"""For how long no knocks are sent to a broker that does not take them."""

log = structlog.get_logger()


class Knocker:
    """Knocks at one broker, and reconnects where nothing comes though the broker has granted all.

    Args:
        filters: the topic filters subscribed to; where none matches `TOPIC`, no knocks are sent.
        quiet_s: see `KnockSchedule`.
    """

    def __init__(self, filters: Sequence[str], quiet_s: float) -> None:
        self._me = secrets.token_hex(8)
        is_heard = any(bare_topics.is_match(each, TOPIC) for each in filters)
        self._schedule = KnockSchedule(self._me, quiet_s if is_heard else 0.0)
        self._muted_until_s = 0.0
        self._knocked_s: float | None = None
        self._strikes = 0

    def link_up(self) -> None:
        """Start with a new connection, unless this broker does not take knocks."""
        if time.monotonic() >= self._muted_until_s:
            self._schedule.begin(time.monotonic())

    def link_down(self) -> None:
        """Stop until the next connection, and judge whether this one ended because of a knock."""
        now_s, knocked_s, self._knocked_s = time.monotonic(), self._knocked_s, None
        self._schedule.end()
        if knocked_s is None or now_s - knocked_s > SOON_S:
            return
        self._strikes += 1
        if self._strikes >= SURE_AFTER:
            self._mute("the broker ends the connection for it")

    def note_message(self) -> None:
        """Note that a message has come."""
        self._schedule.note_message(time.monotonic())

    def take(self, delivery: Delivery) -> bool:
        """Say whether a message is a knock; if so it is acknowledged and done with."""
        if delivery.topic != TOPIC:
            return False
        self._schedule.note_message(time.monotonic(), delivery.message.payload[:64].decode(errors="replace"))
        delivery.acknowledge()
        return True

    async def run(self, link: Link) -> None:
        """Knock when it is due, and reconnect when the subscription is deaf, until cancelled."""
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            now_s = time.monotonic()
            if not link.is_up:
                continue
            if self._schedule.is_deaf(now_s):
                DEAF.inc()
                log.warning("store.deaf", broker=link.address)
                self._schedule.note_resubscribed()
                link.leave("nothing comes by it, not even what was sent to ourselves", or_anew=True)
            elif self._schedule.is_knock_due(now_s):
                self._knock(link, now_s)

    def _knock(self, link: Link, now_s: float) -> None:
        attributes = (("specversion", "1.0"), ("type", "faceferry.knock.v1"))
        knock = Message(topic=TOPIC, payload=self._me.encode(), qos=1, attributes=attributes, expiry_s=10)
        try:
            link.publish(knock, self._answered)
        except (LinkDown, PacketTooLarge):
            return
        self._knocked_s = now_s

    def _answered(self, refusal: str | None) -> None:
        self._knocked_s, self._strikes = None, 0
        if refusal not in (None, NO_SUBSCRIBERS):
            self._mute(f"the broker refuses it: {refusal}")

    def _mute(self, why: str) -> None:
        """Send no knocks for a while: a client that may not publish them may still receive faces."""
        log.info("store.knocks_not", why=why)
        self._strikes = 0
        self._muted_until_s = time.monotonic() + MUTED_S
        self._schedule.end()
