"""Combines the answers of services: which are there, what waits, and why. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field

from services.common.runtime.metrics import Samples

KNOWN_BY = {
    "capture": "faceferry_capture_frames",
    "detect": "faceferry_detect_frames",
    "forward": "faceferry_spool_faces",
    "store": "faceferry_store_available",
    "gallery": "faceferry_gallery_viewers",
}
"""For each service a metric that only it has."""


@dataclass(frozen=True, slots=True)
class ServiceAnswer:
    """The answer of one process.

    Attributes:
        address: its `HOST:PORT`.
        checks: its dependencies by name: `ok`, or what is wrong.
        samples: its metrics.
        at_s: when it answered, Unix time.
        notes: further states by name, on which it does not depend: `ok`, or what is wrong.
    """

    address: str
    checks: Mapping[str, str]
    samples: Samples
    at_s: float
    notes: Mapping[str, str] = field(default_factory=dict)

    @property
    def service(self) -> str:
        """The service; `?` where it is not one of ours."""
        return next((name for name, by in KNOWN_BY.items() if by in self.samples.families), "?")

    @property
    def device(self) -> str | None:
        """Its device; None in the cloud."""
        return next((labels["device"] for labels, _ in self.samples.of("faceferry_device_info")), None)


@dataclass(frozen=True, slots=True)
class Process:
    """One process, and its problems by the name of the check; `up_s` is seconds since its start."""

    service: str
    address: str
    device: str | None
    is_ready: bool
    problems: Mapping[str, str]
    up_s: float


@dataclass(frozen=True, slots=True)
class CameraState:
    """One camera.

    Attributes:
        camera: its name.
        device: its device.
        state: `online`, `offline` or `stalled`.
        frames_s: frames taken a second; None where it is not known yet.
        looked_at_s: frames sent to detect a second; None where it is not known yet.
        why: why it is not online; `""` where it is.
    """

    camera: str
    device: str | None
    state: str
    frames_s: float | None
    looked_at_s: float | None
    why: str = ""

    @property
    def is_well(self) -> bool:
        """Whether it is online, or a recording that has ended."""
        return self.state == "online" or self.why == "ended"


@dataclass(frozen=True, slots=True)
class LinkState:
    """A connection to a broker."""

    service: str
    link: str
    broker: str
    is_up: bool


@dataclass(frozen=True, slots=True)
class WaitingFaces:
    """Faces that wait.

    Attributes:
        where: detect's memory, forward's disk, or the store's memory.
        address: of the process.
        faces: how many.
        oldest_s: seconds that the oldest has waited; None where that is not known.
        why: the reason; `""` where they are on their way.
    """

    where: str
    address: str
    faces: int
    oldest_s: float | None
    why: str


@dataclass(frozen=True, slots=True)
class LastFace:
    """When the last face came, as far as the process knows.

    Attributes:
        camera: the camera, on a device; None: the last face that the store has stored, of any camera.
        device: the camera's device, or None.
        ago_s: seconds since then.
    """

    camera: str | None
    device: str | None
    ago_s: float


@dataclass(frozen=True, slots=True)
class Status:
    """The status of all services.

    Attributes:
        processes: those that answered.
        unreachable: the reasons of those that did not, by address.
        cameras: of all devices.
        links: connections to brokers.
        waiting: faces that wait.
        lasts: when the last faces came, newest first.
        faces: numbers of faces since the start of each process, by what became of them.
    """

    processes: Sequence[Process]
    unreachable: Mapping[str, str]
    cameras: Sequence[CameraState]
    links: Sequence[LinkState]
    waiting: Sequence[WaitingFaces]
    lasts: Sequence[LastFace] = ()
    faces: Mapping[str, int] = field(default_factory=dict)

    @property
    def is_well(self) -> bool:
        """Whether all services answer and are ready, and all cameras are well."""
        return not self.unreachable and all(
            (*(each.is_ready for each in self.processes), *(each.is_well for each in self.cameras))
        )

    def as_json(self) -> dict[str, object]:
        """Return the status as values for JSON."""
        return asdict(self)


def put_together(
    answers: Sequence[ServiceAnswer], unreachable: Mapping[str, str], before: Mapping[str, ServiceAnswer]
) -> Status:
    """Return the status from the answers of all services.

    Args:
        answers: of this look.
        unreachable: reasons of those that did not answer, by address.
        before: answers of the look before, by address, for rates.
    """
    return Status(
        processes=[_process(answer) for answer in answers],
        unreachable=unreachable,
        cameras=[each for answer in answers for each in _cameras(answer, before.get(answer.address))],
        links=[each for answer in answers for each in _links(answer)],
        waiting=[each for answer in answers for each in _waiting(answer)],
        lasts=_lasts(answers),
        faces=_faces(answers),
    )


def _process(answer: ServiceAnswer) -> Process:
    problems = {name: why for name, why in answer.checks.items() if why != "ok"}
    up_s = answer.at_s - answer.samples.total("process_start_time_seconds")
    return Process(answer.service, answer.address, answer.device, not problems, problems, max(0.0, up_s))


def _cameras(answer: ServiceAnswer, before: ServiceAnswer | None) -> Iterator[CameraState]:
    name = "faceferry_capture_state"
    for labels, value in answer.samples.of(name):
        if value == 1:
            camera = labels["camera"]
            frames_s, looked_at_s = (
                _rate(answer, before, f"faceferry_capture_{what}_total", camera)
                for what in ("frames", "published")
            )
            why = answer.notes.get(f"camera/{camera}", "").partition(": ")[2]
            yield CameraState(camera, answer.device, labels[name], frames_s, looked_at_s, why)


def _rate(answer: ServiceAnswer, before: ServiceAnswer | None, name: str, camera: str) -> float | None:
    if before is None or answer.at_s <= before.at_s:
        return None
    more = answer.samples.total(name, camera=camera) - before.samples.total(name, camera=camera)
    return None if more < 0 else round(more / (answer.at_s - before.at_s), 1)  # it was restarted


def _links(answer: ServiceAnswer) -> Iterator[LinkState]:
    for labels, value in answer.samples.of("faceferry_mqtt_link_up"):
        yield LinkState(answer.service, labels["link"], labels.get("broker", ""), value == 1)


def _waiting(answer: ServiceAnswer) -> Iterator[WaitingFaces]:
    samples, address = answer.samples, answer.address
    why = "; ".join(f"{name}: {said}" for name, said in answer.checks.items() if said != "ok")
    match answer.service:
        case "detect":
            held, oldest_s = (
                samples.total(f"faceferry_detect_custody_{what}") for what in ("faces", "oldest_seconds")
            )
            yield WaitingFaces("detect, in memory", address, int(held), oldest_s, why)
        case "forward":
            held, oldest_s = (
                samples.total(f"faceferry_spool_{what}") for what in ("faces", "oldest_seconds")
            )
            silent = samples.total("faceferry_forward_store_silent") == 1
            why = why or ("no store answers" if silent else "")
            yield WaitingFaces("forward, on disk", address, int(held), oldest_s, why)
            for labels, value in samples.of("faceferry_set_aside_faces"):
                if value:
                    yield WaitingFaces("forward, set aside", address, int(value), None, labels["reason"])
            if refused := int(samples.total("faceferry_quarantine_faces")):
                yield WaitingFaces("forward, refused", address, refused, None, "see faceferry spool")
        case "store":
            yield WaitingFaces(
                "store, in memory", address, int(samples.total("faceferry_store_waiting_faces")), None, why
            )


def _lasts(answers: Sequence[ServiceAnswer]) -> list[LastFace]:
    """Return the last faces, newest first; of replicas the newest one."""
    ago_s: dict[tuple[str | None, str | None], float] = {}
    for answer in answers:
        for name in (
            "faceferry_forward_last_face_timestamp_seconds",
            "faceferry_store_last_face_timestamp_seconds",
        ):
            for labels, at_s in answer.samples.of(name):
                if at_s:
                    whose = (labels.get("camera"), answer.device)
                    ago = max(0.0, round(answer.at_s - at_s, 1))
                    ago_s[whose] = min(ago, ago_s.get(whose, ago))
    found = [LastFace(camera, device, ago) for (camera, device), ago in ago_s.items()]
    return sorted(found, key=lambda each: each.ago_s)


def _faces(answers: Sequence[ServiceAnswer]) -> dict[str, int]:
    """Return numbers of faces since the start of each process, by what became of them."""
    told = {
        "visits open": "faceferry_forward_visits_open",
        "taken": "faceferry_forward_taken_total",
        "receipted": "faceferry_forward_stored_total",
        "stored": "faceferry_store_puts_total",
        "refused": "faceferry_store_refused_total",
    }
    return {
        what: int(sum(answer.samples.total(name) for answer in answers))
        for what, name in told.items()
        if any(answer.samples.of(name) for answer in answers)
    }
