from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from services.common.places import unquote_path


@dataclass(frozen=True, slots=True)
class Folder:
    """Faces lie in a folder."""

    path: Path


@dataclass(frozen=True, slots=True)
class Bucket:
    """Faces lie in an S3 bucket, under a prefix that neither starts nor ends with `/` and may be empty."""

    name: str
    prefix: str


def parse_location(url: str) -> Folder | Bucket:
    """Read `s3://bucket/prefix` or `file:///path`.

    Raises:
        ValueError: it is neither.
    """
    parts = urlsplit(url)
    match parts.scheme:
        case "file" if parts.netloc in ("", "localhost") and parts.path.startswith("/"):
            return Folder(Path(unquote_path(parts.path)))
        case "s3" if parts.netloc and "@" not in parts.netloc and not (parts.query or parts.fragment):
            return Bucket(parts.netloc, unquote(parts.path).strip("/"))
    raise ValueError("s3://bucket/prefix or file:///absolute/path is wanted")
