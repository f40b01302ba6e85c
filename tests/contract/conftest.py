"""The gallery over a folder, as its tests visit it."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp.test_utils import TestClient

from tests.seeing import TOKEN, visiting_folder

Client = TestClient[Any, Any]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Where its faces are."""
    return tmp_path / "faces"


@pytest.fixture
async def client(root: Path) -> AsyncIterator[Client]:
    """Of a gallery without a token, on loopback."""
    async with visiting_folder(root) as client:
        yield client


@pytest.fixture
async def guarded(root: Path) -> AsyncIterator[Client]:
    """Of a gallery that asks for a token."""
    async with visiting_folder(root, gallery_token=TOKEN) as client:
        yield client
