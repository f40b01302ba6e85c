import os
from pathlib import Path


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable: what was made, linked, renamed or removed there."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
