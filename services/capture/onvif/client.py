"""Requests to one ONVIF camera for its RTSP addresses. Blocks."""

import re
import secrets
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from urllib.parse import quote, urlsplit
from xml.etree.ElementTree import Element

from services.capture.onvif import messages
from services.capture.onvif.discovery import MOST_BYTES, NotXml, OnvifDevice, parse
from services.capture.onvif.messages import Profile
from services.capture.source.http_address import HttpAddress, NoSnapshot
from services.capture.source.redaction import without_named
from services.common.errors import FaceferryError
from services.common.runtime.trust import ANY_CERTIFICATE

_INSTEAD = "PASSWORD"
_SOAP = "application/soap+xml; charset=utf-8"


class OnvifFailed(FaceferryError):
    """A camera does not tell its RTSP addresses; says why.

    Attributes:
        wants_user: whether it may tell them to a user, or to another one.
    """

    def __init__(self, why: str, *, wants_user: bool = False) -> None:
        super().__init__(why)
        self.wants_user = wants_user


@dataclass(frozen=True, slots=True)
class Login:
    """A user of a camera, and the password."""

    user: str
    password: str

    def __repr__(self) -> str:
        return "Login(...)"


@dataclass(frozen=True, slots=True)
class OnvifStream:
    """A profile and its RTSP address, as the camera tells it."""

    profile: Profile
    url: str


def streams(device: OnvifDevice, login: Login | None) -> tuple[OnvifStream, ...]:
    """Return the RTSP addresses of a camera, one for each profile.

    Only digests of the password are sent, because any host may have answered as a camera. Hence a certificate
    is not checked, either.

    Args:
        device: the camera.
        login: for the camera; None: without a user.

    Raises:
        OnvifFailed: it does not tell.
    """
    client = _Client(device, login)
    media = client.media_service()
    found = []
    for profile in client.profiles(media):
        answer = client.ask(media, messages.stream_uri(media[0], profile.token))
        if (url := messages.address(answer)) is not None:
            found.append(OnvifStream(profile, url))
    if not found:
        raise OnvifFailed("it has no RTSP address")
    return tuple(found)


class _Client:
    def __init__(self, device: OnvifDevice, login: Login | None) -> None:
        self._device = device
        self._login = login
        self._behind = self._clock()

    def media_service(self) -> tuple[str, str]:
        """Return the namespace and the address of the camera's media service."""
        place = messages.DEVICE, self._device.address
        try:
            found = messages.media_service(self.ask(place, messages.SERVICES))
        except OnvifFailed as error:
            if error.wants_user:
                raise
            found = None  # cameras from before 2011 have no such request
        found = found or messages.media_service(self.ask(place, messages.CAPABILITIES))
        if found is None:
            raise OnvifFailed("it has no media service")
        return found[0], self._here(found[1])

    def profiles(self, media: tuple[str, str]) -> tuple[Profile, ...]:
        """Return the camera's profiles."""
        return messages.profiles(self.ask(media, messages.PROFILES[media[0]]))

    def ask(self, service: tuple[str, str], question: str) -> Element:
        """Send one request, authenticated if there is a login; return the response.

        Args:
            service: its namespace and its address.
            question: the body.
        """
        return self._post(service, question, self._token())

    def _post(self, service: tuple[str, str], question: str, security: str = "") -> Element:
        namespace, address = service
        try:
            asked = HttpAddress(self._with_login(address), ANY_CERTIFICATE, is_basic_fine=False)
            status, data = asked.post(messages.envelope(namespace, question, security), _SOAP, MOST_BYTES + 1)
        except NoSnapshot as error:
            raise OnvifFailed(str(error)) from None
        if status == 401:
            raise OnvifFailed("it does not know who asks", wants_user=True)
        try:
            answer = parse(data)
        except NotXml as error:
            raise OnvifFailed(f"HTTP {status}, and no SOAP message: {error}") from None
        if (why := messages.fault(answer)) is not None:
            raise OnvifFailed(why, wants_user=messages.wants_user(why))
        return answer

    def _clock(self) -> timedelta:
        """Return by how much the camera's clock is behind; zero where it does not tell, as some do not."""
        try:
            answer = self._post((messages.DEVICE, self._device.address), messages.TIME)
        except OnvifFailed as error:
            if not error.wants_user:
                raise
            return timedelta()
        time = messages.camera_time(answer)
        return datetime.now(UTC) - time if time is not None else timedelta()

    def _token(self) -> str:
        if self._login is None:
            return ""
        created = datetime.now(UTC) - self._behind
        return messages.token(self._login.user, self._login.password, secrets.token_bytes(16), created)

    def _here(self, address: str) -> str:
        """Return a service's address with the device's host: cameras behind routers tell another one."""
        try:
            parts = urlsplit(address)
            host, port = self._device.host, parts.port
        except ValueError:
            raise OnvifFailed("its media service has no address") from None
        host = f"[{host}]" if ":" in host else host
        return parts._replace(netloc=host if port is None else f"{host}:{port}").geturl()

    def _with_login(self, address: str) -> str:
        if self._login is None:
            return address
        parts = urlsplit(address)
        user, password = quote(self._login.user, safe=""), quote(self._login.password, safe="")
        return parts._replace(netloc=f"{user}:{password}@{parts.netloc}").geturl()


def without_login(stream: OnvifStream, login: Login | None) -> OnvifStream:
    """Return a stream without the password and keys that some cameras put into its address."""
    parts = urlsplit(stream.url)
    path, query = (_without(each, login) for each in (parts.path, parts.query))
    netloc = parts.netloc.rpartition("@")[2]
    return replace(stream, url=parts._replace(netloc=netloc, path=path, query=query).geturl())


def _without(text: str, login: Login | None) -> str:
    """Replace what a part of an address calls a password, and the login's own, where it is a whole word."""
    text = without_named(text, _INSTEAD)
    for spelling in {login.password, quote(login.password, safe="")} if login else ():
        if spelling:
            text = re.sub(rf"(?<![A-Za-z0-9]){re.escape(spelling)}(?![A-Za-z0-9])", _INSTEAD, text)
    return text
