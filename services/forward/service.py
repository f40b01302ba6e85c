"""Connects the parts of forward, runs them and keeps its gauges."""

import asyncio
import functools
import time

import structlog

from services.common.retention import Retention, SettledClock
from services.common.runtime import http, lock
from services.common.runtime.concurrency import Backoff
from services.common.runtime.metrics import DEVICE_INFO, Counts, Waiting, summarise, totals, waiting
from services.forward import metrics
from services.forward.delivered import Delivered
from services.forward.erasures import ErasureOrders
from services.forward.receiver import Receiver
from services.forward.sender import Sender
from services.forward.settings import ForwardSettings
from services.forward.spool.commands import Expire, PutBack, PutBackRequest
from services.forward.spool.database import SpoolFull, SpoolUnwritable
from services.forward.spool.disk import Spool
from services.forward.spool.erasure_log import ErasureLog
from services.forward.spool.folder import prepare
from services.forward.spool.rows import OTHER_DEVICE
from services.forward.spool.writer import SpoolWriter

METRICS_EVERY_S = 1.0
DISK_POLL_S = 1.0
LOOK_AT_CLOCK_S = 60.0
EXPIRE_EVERY_S = 1_800.0
MOST_DISK_POLL_S = 20.0

log = structlog.get_logger()


async def serve(settings: ForwardSettings) -> None:
    """Take faces into custody and bring them to the cloud until cancelled."""
    DEVICE_INFO.labels(settings.device).set(1)
    prepare(settings.spool_path)
    # A standby is healthy: it has no dependency until the spool is its own.
    checks: dict[str, http.Check] = {}
    async with (
        http.serve(settings.http_host, settings.http_port, checks),
        lock.hold(settings.spool_path, "spool"),
    ):
        opening = SpoolOpening()
        checks["spool"] = opening.why_not_ready
        spool = await open_spool(settings, opening)
        log_faces_of_others(spool, settings.device)
        await ferry(settings, spool, checks)


async def ferry(settings: ForwardSettings, spool: Spool, checks: dict[str, http.Check]) -> None:
    """Take faces into an open spool, and bring them to the cloud, until cancelled.

    Args:
        settings: those of this process.
        spool: owned by this function, which closes it at the end.
        checks: readiness checks by dependency; those of both brokers are added, that of the spool replaced.

    Raises:
        sqlite3.Error: the database fails in a way that only a restart may repair.
        SpoolTaken: the spool's folder was replaced.
    """
    last_sequence = spool.last_sequence()
    verify = settings.erase_verifier()
    erasure_log = ErasureLog(settings.spool_path, settings.device, verify) if verify is not None else None
    writer = SpoolWriter(spool, settings.quarantine_max_bytes, erasure_log)
    # What a wrong name has set aside is ours again.
    writer.put(PutBack(PutBackRequest(reason=OTHER_DEVICE, of=settings.device)))
    delivered = Delivered()
    erasures = ErasureOrders(erasure_log, writer.put) if erasure_log is not None else None
    sender = Sender(settings, writer, delivered, last_sequence, erasures)
    receiver = Receiver(settings, writer, delivered, sender, erasures)
    if erasures is not None:
        erasures.resume()
    checks["local_broker"] = receiver.link.why_not_ready
    checks["cloud_broker"] = sender.why_not_ready
    checks["spool"] = receiver.why_no_room
    async with receiver.link, sender.link, asyncio.TaskGroup() as tasks:
        tasks.create_task(writer.run(receiver, sender), name="forward.spool")
        tasks.create_task(receiver.run(), name="forward.take")
        tasks.create_task(sender.receive_receipts(), name="forward.receipts")
        tasks.create_task(sender.run(), name="forward.send")
        tasks.create_task(sender.try_again(), name="forward.try_again")
        tasks.create_task(delete_expired(settings.retention, writer), name="forward.expire")
        tasks.create_task(sender.watch_broker(), name="forward.watch_broker")
        tasks.create_task(update_gauges(settings, writer, receiver, sender), name="forward.gauges")
        summary = functools.partial(waiting_faces, writer, receiver, sender)
        tasks.create_task(summarise("forward.summary", counted, summary), name="forward.summary")
        if receiver.notifier is not None:
            tasks.create_task(receiver.notifier.run(), name="forward.notify")
        if receiver.chooser is not None:
            tasks.create_task(receiver.chooser.run(), name="forward.choose")


class SpoolOpening:
    """Readiness while the spool is not open yet (see `http.Check`).

    Attributes:
        problem: why it is not, as a text.
    """

    def __init__(self) -> None:
        self.problem = "it is being opened"

    def why_not_ready(self) -> str:
        """Return what is wrong: never None, because an open spool has another check."""
        return self.problem


async def open_spool(settings: ForwardSettings, opening: SpoolOpening) -> Spool:
    """Open the spool; wait while the disk is full or takes no writes.

    Raises:
        SetupError: a newer version made it.
    """
    was_told = False
    backoff = Backoff(DISK_POLL_S, MOST_DISK_POLL_S)
    while True:
        try:
            # In a thread: a damaged one is written anew, which may take minutes.
            return await asyncio.to_thread(
                Spool, settings.spool_path, settings.spool_reserve_bytes, settings.device
            )
        except (SpoolFull, SpoolUnwritable) as error:
            opening.problem = str(error)
            if not was_told:
                log.error("spool.waits_for_room", error=str(error))  # noqa: TRY400 - foreseen
                was_told = True
        await asyncio.sleep(backoff.next_s())


def log_faces_of_others(spool: Spool, device: str) -> None:
    """Log an error if the spool holds faces of other devices, which cannot be delivered from here."""
    if topics := spool.others:
        log.error(
            "spool.holds_faces_of_others",
            device=device,
            topics=topics,
            advice="is FACEFERRY_DEVICE right? They are set aside, not lost: see `faceferry spool`",
        )


def counted() -> Counts:
    """Return the totals of the counters that the summary in the log is made of."""
    return totals(
        {
            "sights": metrics.SIGHTS,
            "wanted": metrics.WANTED,
            "taken": metrics.FACES_TAKEN,
            "stored": metrics.FACES_STORED,
            "resent": metrics.FACES_RESENT,
            "refused": metrics.FACES_REFUSED,
            "dropped": metrics.DROPPED,
        }
    )


def waiting_faces(writer: SpoolWriter, receiver: Receiver, sender: Sender) -> Waiting:
    """Return how many faces wait, since when, why, and how many are set aside or in quarantine."""
    state = writer.state
    oldest_s = state.oldest_s(time.monotonic())
    why = receiver.why_no_room() or sender.why_not_ready() or sender.why_waiting()
    apart = {"set_aside": sum(state.set_aside.values()), "quarantined": state.quarantined}
    return {
        **waiting(state.faces, oldest_s, why),
        **{name: count for name, count in apart.items() if count},
    }


async def delete_expired(retention: Retention, writer: SpoolWriter) -> None:
    """Delete faces that are older than the retention, until cancelled."""
    clock = SettledClock()
    while retention.days is not None:
        now = clock.time(time.time(), time.monotonic())
        if now is not None and (limit := retention.limit(now)) is not None:
            writer.put(Expire(limit))
        await asyncio.sleep(LOOK_AT_CLOCK_S if now is None else EXPIRE_EVERY_S)


async def update_gauges(
    settings: ForwardSettings, writer: SpoolWriter, receiver: Receiver, sender: Sender
) -> None:
    """Once a second: set the gauges, and tell Home Assistant and detect what has changed; until cancelled."""
    metrics.SPOOL_MAX_BYTES.set(settings.spool_max_bytes)
    reasons: set[str] = set()
    while True:
        state = writer.state
        metrics.SPOOL_FACES.set(state.faces)
        metrics.SPOOL_BYTES.set(state.bytes)
        oldest_s = state.oldest_s(time.monotonic()) or 0.0
        metrics.SPOOL_OLDEST_SECONDS.set(oldest_s)
        metrics.SPOOL_IS_FULL.set(receiver.why_no_room() is not None)
        metrics.QUARANTINE_FACES.set(state.quarantined)
        reasons |= state.set_aside.keys()
        for reason in reasons:
            metrics.SET_ASIDE_FACES.labels(reason).set(state.set_aside.get(reason, 0))
        if receiver.home is not None:
            receiver.home.measure(is_cloud_up=sender.link.is_up, waiting=state.faces, oldest_s=oldest_s)
        sender.measure()
        receiver.announce_limit(sender.most_image_bytes)
        await asyncio.sleep(METRICS_EVERY_S)
