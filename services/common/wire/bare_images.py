"""Payloads of clients that know nothing of Faceferry: a plain image, or one in base64."""

import binascii
import re
from urllib.parse import quote

from services.common.errors import Refused
from services.common.images import structure
from services.common.images.structure import ImageInfo

MAX_TOPIC = 200
"""Characters of a topic that are kept with an image; those beyond ASCII are percent-encoded first."""

_DATA_URI = re.compile(rb"data:image/[a-z0-9.+-]{1,40};base64,", re.IGNORECASE)
_BASE64 = re.compile(rb"[A-Za-z0-9+/_-]{16,}={0,2}")
_IMAGES_IN_BASE64 = (b"/9j/", b"iVBORw0KGgo")
"""How base64 of a JPEG and of a PNG begins."""
_PRINTABLE = "".join(map(chr, range(0x20, 0x7F)))
_SPACE = b" \t\r\n"
_KINDS = (
    ("pickle", re.compile(rb"\x80[\x02-\x05]")),
    ("webp", re.compile(rb"RIFF.{4}WEBP", re.DOTALL)),
    ("gif", re.compile(rb"GIF8[79]a")),
    ("bmp", re.compile(rb"BM.{4}\0\0\0\0", re.DOTALL)),
    ("tiff", re.compile(rb"II\*\0|MM\0\*")),
    ("heif", re.compile(rb".{4}ftyp", re.DOTALL)),
    ("array", re.compile(rb"\x93NUMPY")),
    ("compressed", re.compile(rb"\x1f\x8b|\x78[\x01\x5e\x9c\xda]|\x28\xb5\x2f\xfd")),
    ("json", re.compile(rb'\s*[\[{"]')),
)
"""Kinds of payload by their first bytes, the most specific first. None of them is parsed: a pickle could
run a program."""


def read(payload: bytes) -> tuple[bytes, ImageInfo]:
    """Return the image in a payload, without the bytes that follow its end, and its type and size.

    Base64 of a JPEG or PNG is decoded, with or without line ends and a `data:` prefix.

    Raises:
        Refused: the reason names what came: `base64`, `json`, `pickle`, `webp`, `text`, ... (see
            docs/protocol.md), or is one of `structure.trim`.
    """
    text = payload.lstrip(_SPACE)
    if (prefix := _DATA_URI.match(text)) is not None:
        text = text[prefix.end() :].lstrip(_SPACE)
    if text.startswith(_IMAGES_IN_BASE64):
        payload = _decode(text)
    if not structure.is_image(payload):
        raise Refused(_kind(payload), "neither JPEG nor PNG, nor base64 of one")
    return structure.trim(payload)


def describe(topic: str, info: ImageInfo) -> dict[str, str]:
    """Return the attributes of an image that came without any: its topic and its size in pixels."""
    written = quote(topic, safe=_PRINTABLE)[:MAX_TOPIC]
    return {"framesize": f"{info.width}x{info.height}", "topic": written}


def _decode(text: bytes) -> bytes:
    data = text.translate(None, _SPACE).rstrip(b"=")
    try:
        return binascii.a2b_base64(data + b"=" * (-len(data) % 4), strict_mode=True)
    except binascii.Error as error:
        raise Refused("base64", str(error)) from error


def _kind(payload: bytes) -> str:
    if not payload:
        return "empty"
    for kind, beginning in _KINDS:
        if beginning.match(payload):
            return kind
    if _BASE64.fullmatch(payload.translate(None, _SPACE)):
        return "base64"
    return "text" if _is_text(payload) else "not_an_image"


def _is_text(payload: bytes) -> bool:
    try:
        text = payload.decode()
    except UnicodeDecodeError:
        return False
    return all(character.isprintable() or character.isspace() for character in text)
