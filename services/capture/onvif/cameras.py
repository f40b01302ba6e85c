"""The cameras of the network, each with what to put into the configuration; blocks."""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from services.capture.machine import FoundCamera
from services.capture.onvif.asking import Login, NoAnswer, Stream, streams, without_login
from services.capture.onvif.discovery import Device

MOST_S = 20.0
"""For longer no camera is waited for: one that answers a byte at a time may never come to an end."""

AskLogin = Callable[[Device], Login | None]
"""Asks whoever sits there for a user and a password of a camera; nothing: to be left alone."""


@dataclass(slots=True)
class _Visit:
    """What came of asking one camera."""

    device: Device
    found: tuple[Stream, ...] = ()
    why: str = "it has not come to an end with its answers"
    wants_user: bool = False
    login: Login | None = None

    def make(self) -> None:
        """Ask."""
        try:
            self.found = streams(self.device, self.login)
        except NoAnswer as error:
            self.why, self.wants_user = str(error), error.wants_user


def network_cameras(devices: Sequence[Device], ask_login: AskLogin) -> tuple[FoundCamera, ...]:
    """Return what cameras of the network have to offer, an entry for each of their streams.

    Each is asked without a user first, and once more with one if it wants one: after some wrong
    passwords they lock their users out.
    """
    visits = _make([_Visit(device) for device in devices])
    again = []
    for visit in visits:
        login = ask_login(visit.device) if visit.wants_user else None
        if login is not None:
            again.append(_Visit(visit.device, login=login))
    told = {visit.device.address: visit for visit in (*visits, *_make(again))}
    return tuple(camera for visit in told.values() for camera in _cameras(visit))


def _make(visits: list[_Visit]) -> list[_Visit]:
    """Ask all at once; what is not done in time is left alone."""
    threads = [threading.Thread(target=visit.make, daemon=True, name="onvif") for visit in visits]
    for thread in threads:
        thread.start()
    until_s = time.monotonic() + MOST_S
    for thread in threads:
        thread.join(max(0.0, until_s - time.monotonic()))
    return visits


def _cameras(visit: _Visit) -> tuple[FoundCamera, ...]:
    name = visit.device.name or "ONVIF camera"
    if not visit.found:
        return (FoundCamera(visit.device.address, name, (), "", _problem(visit)),)
    return tuple(_camera(name, visit, without_login(stream, visit.login)) for stream in visit.found)


def _camera(name: str, visit: _Visit, stream: Stream) -> FoundCamera:
    formats = () if stream.profile.format is None else (stream.profile.format,)
    parts = urlsplit(stream.url)
    login = "" if visit.login is None else "USER:PASSWORD@"
    line = f"front={parts._replace(netloc=f'{login}{parts.netloc}').geturl()}"
    problem = None
    if parts.hostname != visit.device.host:
        problem = f"that address is another host's than {visit.device.host}, which names it"
    return FoundCamera(stream.url, f"{name}, {stream.profile.name}".rstrip(", "), formats, line, problem)


def _problem(visit: _Visit) -> str:
    if not visit.wants_user:
        return visit.why
    if visit.login is None:
        return "it tells nobody where its pictures are whom it does not know: `faceferry cameras --user NAME`"
    return f"user or password are not the camera's ({visit.why})"
