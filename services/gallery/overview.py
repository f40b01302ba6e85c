"""The devices with their cameras: what each does, what it saw last, and how much in the last 24 hours."""

import asyncio
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta

from services.common.storage.keys import FaceKey
from services.common.wire.topics import Source
from services.gallery import chart
from services.gallery.album import Album
from services.gallery.cameras import MOST_DEVICES, CameraList, camera_list_of, merged
from services.gallery.counts import Counts
from services.gallery.presence import FORWARD, Presence

PATIENCE_S = 0.5
"""Longest time that the page waits for a camera's counts."""


@dataclass(frozen=True, slots=True)
class CameraOverview:
    """A camera, as the page of cameras shows it.

    Attributes:
        source: the camera.
        state: `online`, `offline`, `stalled` or `unknown`.
        reason: why it is not online, in words; `""` where it is.
        last: its newest face on the days that are listed, or None.
        bars: its faces by the hour over the last 24 hours, this hour last; None while they are being counted.
        summary: the bars in words.
    """

    source: Source
    state: str
    reason: str
    last: FaceKey | None
    bars: list[chart.Bar] | None
    summary: str


@dataclass(frozen=True, slots=True)
class DeviceOverview:
    """One device: its name, the state of its link to the cloud and the reason for it, and its cameras."""

    name: str
    state: str
    reason: str
    cameras: list[CameraOverview]


@dataclass(frozen=True, slots=True)
class Survey:
    """All devices with their cameras.

    Attributes:
        devices: sorted by name.
        camera_list: their cameras; says where there are more.
    """

    devices: list[DeviceOverview]
    camera_list: CameraList


async def survey_devices(album: Album, counts: Counts, presence: Presence, now: datetime) -> Survey:
    """Return the devices that sent a status, or have faces of the last two days or of the newest day."""
    today = now.astimezone(UTC).date()
    days = await _days(album, today)
    camera_list = merged(*[await album.camera_list(day) for day in days], camera_list_of(presence.cameras))
    newest_faces = await album.newest_faces(camera_list.sources, days)
    numbers = await asyncio.gather(*(last_24_hours(counts, source, now) for source in camera_list.sources))
    states = presence.cameras
    cameras = [
        _camera(source, states.get(source, "unknown"), presence.reason(source), last, by_hour, now.hour + 1)
        for source, last, by_hour in zip(camera_list.sources, newest_faces, numbers, strict=True)
    ]
    names = sorted({source.device for source in camera_list.sources} | presence.devices)
    devices = [
        DeviceOverview(
            name,
            presence.device(name),
            presence.reason(Source(name, FORWARD)),
            [camera for camera in cameras if camera.source.device == name],
        )
        for name in names[:MOST_DEVICES]
    ]
    return Survey(devices, replace(camera_list, has_more=camera_list.has_more or len(names) > MOST_DEVICES))


async def _days(album: Album, today: date) -> list[date]:
    """Return the days that are listed, the newest first."""
    stored = (await album.calendar()).days
    wanted = {today, today - timedelta(days=1), *stored[-1:]}
    return sorted(wanted & set(stored), reverse=True)


def _camera(  # noqa: PLR0917 - what a camera is made of
    source: Source,
    state: str,
    reason: str,
    last: FaceKey | None,
    by_hour: list[int] | None,
    first_hour: int,
) -> CameraOverview:
    if by_hour is None:
        return CameraOverview(source, state, reason, last, None, "still being counted")
    return CameraOverview(
        source, state, reason, last, chart.bars(by_hour, first_hour), chart.summary(by_hour)
    )


async def last_24_hours(counts: Counts, source: Source, now: datetime) -> list[int] | None:
    """Return a camera's faces in each of the last 24 hours, the present hour last, or None while counted."""
    today = now.date()
    before = await counts.within([source], today - timedelta(days=1), PATIENCE_S)
    after = await counts.within([source], today, PATIENCE_S)
    if before is None or after is None:
        return None
    return [*before, *after][now.hour + 1 : now.hour + 25]
