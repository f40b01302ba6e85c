"""Where the keys to a bucket are found: wherever botocore looks."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from aiobotocore.credentials import AioProcessProvider
from aiobotocore.session import AioSession
from botocore.exceptions import BotoCoreError, ClientError

from services.common.storage.objects import StoreUnavailable

_FOREIGN = (
    BotoCoreError,
    ClientError,
    OSError,
    ValueError,
    LookupError,
    RuntimeError,
    TypeError,
    AttributeError,
)
"""What botocore raises where a file, a program or a service gives it something else than credentials."""


@dataclass(frozen=True, slots=True)
class Keys:
    """What a request is signed with.

    Attributes:
        access_key_id: the name of the key.
        secret_access_key: never to be told.
        token: never to be told either; temporary keys have one.
    """

    access_key_id: str
    secret_access_key: str = field(repr=False)
    token: str | None = field(default=None, repr=False)

    @property
    def secrets(self) -> tuple[str, ...]:
        """What must not be told."""
        return (self.secret_access_key, self.token or "")


@dataclass(frozen=True, slots=True)
class Found:
    """Keys as they were found.

    Attributes:
        keys: the keys.
        lifetime_s: seconds that they are good for from now; nothing where they have no end.
    """

    keys: Keys
    lifetime_s: float | None = None


def find_keys(timeout_s: float) -> Found:
    """Return what botocore finds, wherever it looks; takes a while and may ask other services.

    Args:
        timeout_s: how long the services may take.

    Raises:
        StoreUnavailable: `no_credentials`.
    """
    _silence_botocore()
    try:
        found = asyncio.run(_ask_botocore(timeout_s))
    except TimeoutError as error:
        raise StoreUnavailable("no_credentials", silence(timeout_s)) from error
    except _FOREIGN as error:
        words = " ".join(f"{type(error).__name__}: {error}".split())
        raise StoreUnavailable("no_credentials", words[:500]) from error
    if found is None:
        raise StoreUnavailable("no_credentials", "none found in AWS_*, the AWS files or the instance")
    for name in ("access_key_id", "secret_access_key", "token"):
        if not _is_header_value(getattr(found.keys, name) or "x"):
            raise StoreUnavailable("no_credentials", f"the {name} found has characters that no key has")
    return found


async def _ask_botocore(timeout_s: float) -> Found | None:
    session = AioSession()
    async with asyncio.timeout(timeout_s), _programs(session):
        credentials = await session.get_credentials()
        frozen = await credentials.get_frozen_credentials() if credentials is not None else None
    if frozen is None or not frozen.access_key or not frozen.secret_key:
        return None
    # Only those that can be refreshed have an end, and botocore tells it nobody.
    expiry: datetime | None = getattr(credentials, "_expiry_time", None)
    lifetime_s = None if expiry is None else (expiry - datetime.now(UTC)).total_seconds()
    return Found(Keys(frozen.access_key, frozen.secret_key, frozen.token), lifetime_s)


@asynccontextmanager
async def _programs(session: AioSession) -> AsyncIterator[None]:
    """Leave no program behind that was asked for keys (`credential_process`) and has not answered."""
    started: list[asyncio.subprocess.Process] = []

    async def start(*command: str, **options: Any) -> asyncio.subprocess.Process:
        started.append(await asyncio.create_subprocess_exec(*command, **options))
        return started[-1]

    profile = session.get_config_variable("profile") or "default"
    provider = AioProcessProvider(profile, lambda: session.full_config, popen=start)
    session.get_component("credential_provider").insert_before("custom-process", provider)
    try:
        yield
    finally:
        for program in started:
            if program.returncode is None:
                program.kill()
                await program.wait()


def _silence_botocore() -> None:
    """Keep botocore from writing a traceback for each try: its errors are told in our own words."""
    for name in ("botocore", "aiobotocore"):
        logging.getLogger(f"{name}.credentials").disabled = True


def _is_header_value(text: str) -> bool:
    return text.isascii() and text.isprintable() and " " not in text


def silence(timeout_s: float) -> str:
    """Return the words for a giver of keys that says nothing."""
    return f"whoever gives them has not answered for {timeout_s:g} s"
