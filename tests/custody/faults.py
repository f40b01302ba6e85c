"""What may go wrong, by name, and in which order it does."""

import random
from collections.abc import Collection
from dataclasses import dataclass

from tests.custody import broker_faults, spool_faults
from tests.custody.happenings import (
    Happening,
    answered,
    captive,
    clock_off,
    cut,
    flapping,
    keys_rotated,
    killed,
    slowed,
    stopped,
    swallowed,
)
from tests.custody.proxy import HttpAnswer, s3_trouble
from tests.custody.rig import Rig
from tests.custody.ways import Ways

LONGER_THAN_KEEP_ALIVE_S = (23.0, 26.0)
"""A broker gives a client up after one and a half of its keep-alive times, which are 15 s."""
LONGER_THAN_RESERVE_S = (20.0, 25.0)
"""The shortest that a disk stays full whose last byte is taken again and again."""
_QUICK_S = (0.2, 2.0)
_TROUBLE_S = (1.0, 4.0)
_RESTARTED_S = (3.0, 6.0)
"""Time enough for what was restarted to do its work."""
_AWAY_S = (3.0, 12.0)
"""Shorter and longer than it takes to move on to another broker."""
_TURNS_S = (5.0, 8.0)
"""Time enough for two to do theirs, one after the other."""


@dataclass(frozen=True, slots=True)
class Fault:
    """A kind of fault.

    Attributes:
        name: what reports call it.
        targets: what it touches; faults that run at one time touch different things.
        happens: starts it when its context is entered, heals it when that is left.
        lasts_s: the shortest and the longest it lasts.
        stops: the services whose work it stops, from its start to its end and no longer; none where it
            restarts something on its own.
        needs: what a machine may lack for it, see `Rig.missing`.
    """

    name: str
    targets: frozenset[str]
    happens: Happening
    lasts_s: tuple[float, float] = _TROUBLE_S
    stops: frozenset[str] = frozenset()
    needs: str | None = None

    @property
    def is_slow(self) -> bool:
        """Whether it takes so long that a short run has room for a few of them only."""
        return self.lasts_s[0] > 10


def _link(rig: Rig) -> Ways:
    return rig.link


def _bucket_link(rig: Rig) -> Ways:
    return Ways([rig.bucket_link])


def _fault(
    name: str,
    targets: str,
    happens: Happening,
    stops: str = "",
    *,
    lasts_s: tuple[float, float] = _TROUBLE_S,
    needs: str | None = None,
) -> Fault:
    return Fault(
        name, frozenset(targets.split()), happens, lasts_s, stops=frozenset(stops.split()), needs=needs
    )


_THROTTLED = s3_trouble(503, "SlowDown")
_UNAVAILABLE = s3_trouble(503, "ServiceUnavailable")
_DENIED = s3_trouble(403, "AccessDenied")
_EXPIRED = s3_trouble(403, "ExpiredToken")

_HTML, _TAG = "Content-Type: text/html", 'ETag: "d41d8cd98f00b204e9800998ecf8427e"'
_LIES = (
    HttpAnswer(200, (_TAG,)),
    HttpAnswer(200, (_HTML,), "<html><title>Log in</title></html>"),
    HttpAnswer(200, (_TAG, _HTML), "<html><title>Log in</title></html>"),
    HttpAnswer(200, (_TAG,), length=500),
    HttpAnswer(200, ("Content-Type: application/json",), '{"ok": true}'),
    HttpAnswer(204),
)
"""Of servers that are no bucket, or have not stored."""

EDGE = ("local", "forward", "detect", "capture")
FULL = "spool's disk full for long"
PORTAL_FOR_LONG = "captive portal for a minute"


def kinds(rig: Rig, full_s: tuple[float, float] = LONGER_THAN_RESERVE_S) -> tuple[Fault, ...]:
    """Return every kind of fault, of those parts that a rig has.

    Args:
        rig: what they happen to.
        full_s: how long the disk is full at the shortest and at the longest, when it is for long.
    """
    known = () if "capture" in rig.parts else _of_known_faces()
    brokers = _of_one_broker() if len(rig.clouds.brokers) == 1 else _of_brokers(rig)
    return (
        *_of_processes(rig),
        *brokers,
        *_of_networks(),
        *_of_the_bucket(),
        *_of_the_edge(full_s),
        *known,
    )


def _of_processes(rig: Rig) -> tuple[Fault, ...]:
    edge = [name for name in EDGE if name in rig.parts]
    cameras = [name for name in ("detect", "capture") if name in rig.parts]
    stopped_edge = " ".join(name for name in edge if name in rig.services)
    return (
        _fault("forward killed", "forward", killed("forward"), "forward", lasts_s=_QUICK_S),
        _fault("store killed", "store", killed("store"), "store", lasts_s=_QUICK_S),
        _fault("local broker killed", "local", killed("local"), stopped_edge, lasts_s=_QUICK_S),
        *(_fault(f"{name} killed", name, killed(name), name, lasts_s=_QUICK_S) for name in cameras),
        _fault("all of the edge killed", " ".join(edge), killed(*edge), stopped_edge, lasts_s=_QUICK_S),
        *(
            _fault(f"{name} stopped", name, stopped(name), name, lasts_s=LONGER_THAN_KEEP_ALIVE_S)
            for name in ("forward", "store")
        ),
    )


def _of_one_broker() -> tuple[Fault, ...]:
    stops = "forward store"
    small = broker_faults.small_packets
    return (
        _fault("cloud broker killed", "cloud", broker_faults.killed, stops, lasts_s=_QUICK_S),
        _fault(
            "cloud broker stopped", "cloud", broker_faults.stopped, stops, lasts_s=LONGER_THAN_KEEP_ALIVE_S
        ),
        _fault("cloud broker with a small packet limit", "cloud", small, lasts_s=_RESTARTED_S),
    )


def _of_brokers(rig: Rig) -> tuple[Fault, ...]:
    """Return those of several brokers: while one is there, nothing stops."""
    between = (_fault("nodes cut off from each other", "cloud", broker_faults.apart, lasts_s=_AWAY_S),)
    return (
        _fault("one broker killed", "cloud", broker_faults.killed, lasts_s=_QUICK_S),
        _fault("two brokers killed", "cloud", broker_faults.two_killed, lasts_s=_TROUBLE_S),
        _fault("one broker stopped", "cloud", broker_faults.stopped, lasts_s=_AWAY_S),
        _fault("one broker cut off", "cloud link", broker_faults.cut_off, lasts_s=_AWAY_S),
        _fault("one broker half-open", "cloud link", broker_faults.swallowed, lasts_s=_AWAY_S),
        *(between if rig.clouds.between else ()),
    )


def _of_networks() -> tuple[Fault, ...]:
    return (
        _fault("link cut", "link", cut(_link), "forward"),
        _fault("link half-open", "link", swallowed(_link), "forward"),
        _fault("link slow", "link", slowed),
        _fault("link flapping", "link", flapping),
    )


def _of_the_bucket() -> tuple[Fault, ...]:
    return (
        _fault("bucket answers 503", "bucket", answered(_THROTTLED, _UNAVAILABLE), "store"),
        _fault("bucket answers 403", "bucket", answered(_DENIED, _EXPIRED), "store"),
        _fault("bucket says 200 and stores nothing", "bucket", answered(*_LIES), "store"),
        _fault("bucket's keys rotated", "bucket", keys_rotated, "store"),
        # Nothing comes to the store then, which looks at an idle bucket once in a while.
        _fault("captive portal", "link bucket", captive, "forward"),
        _fault(PORTAL_FOR_LONG, "link bucket", captive, lasts_s=(55.0, 65.0)),
        _fault("bucket hangs", "bucket", swallowed(_bucket_link), "store"),
        _fault("bucket refuses connections", "bucket", cut(_bucket_link), "store"),
    )


def _of_the_edge(full_s: tuple[float, float]) -> tuple[Fault, ...]:
    beside, instead = spool_faults.second_forward_beside, spool_faults.second_forward_instead
    return (
        _fault("spool's disk full", "disk", spool_faults.disk_full, "forward", needs="disk"),
        _fault(FULL, "disk", spool_faults.disk_full_for_long, needs="disk", lasts_s=full_s),
        _fault("lock deleted, a second forward beside", "forward disk link local", beside, lasts_s=_TURNS_S),
        _fault("lock deleted, a second forward instead", "forward disk", instead, lasts_s=_RESTARTED_S),
        _fault("clock a day back", "clock", clock_off(-1), needs="clock"),
        _fault("clock a day ahead", "clock", clock_off(1), needs="clock"),
    )


def _of_known_faces() -> tuple[Fault, ...]:
    """Return those that tamper with what lies in the spool: only who keeps account of each face can judge."""
    rows, file = spool_faults.rows_spoilt_at_work, spool_faults.spool_damaged
    return (
        _fault("rows of the spool damaged", "forward disk", rows),
        _fault("spool's file damaged", "forward disk", file, lasts_s=_QUICK_S),
        _fault(
            "a wrong device name",
            "forward disk",
            spool_faults.wrong_device,
            lasts_s=_RESTARTED_S,
            needs="rules",
        ),
    )


def deck(
    rng: random.Random,
    count: int,
    rig: Rig,
    full_s: tuple[float, float] = LONGER_THAN_RESERVE_S,
    only: Collection[str] = (),
) -> list[Fault]:
    """Return `count` faults in random order: each quick kind that can be made here, and then more of them.

    One in forty is a slow one, and stands in the first two thirds, where others run beside it. The disk that
    is full for long is always among them, and then the captive portal. `only` names kinds that are wanted
    alone.
    """
    possible = [fault for fault in kinds(rig, full_s) if fault.needs not in rig.missing]
    if only:
        return rng.choices([fault for fault in possible if fault.name in only], k=count)
    quick = [fault for fault in possible if not fault.is_slow]
    slow = [fault for fault in possible if fault.is_slow]
    rng.shuffle(slow)
    slow.sort(key=lambda fault: (fault.name != FULL, fault.name != PORTAL_FOR_LONG))
    slow_count = max(1, count // 40)
    faults = quick + rng.choices(quick, k=max(0, count - len(quick) - slow_count))
    rng.shuffle(faults)
    for number in range(slow_count):
        faults.insert(rng.randrange(len(faults) * 2 // 3), slow[number % len(slow)])
    return faults
