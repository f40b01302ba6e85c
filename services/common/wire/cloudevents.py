"""Attributes of messages, after the CloudEvents 1.0 MQTT binding in binary mode.

https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/mqtt-protocol-binding.md
"""

import re
from collections.abc import Mapping

from services.common.errors import Refused
from services.common.wire.topics import Source

_NAME = re.compile(r"[a-z0-9]{1,20}", re.ASCII)
_VALUE = re.compile(r"[\x20-\x7e]{1,512}", re.ASCII)


TRACEPARENT = "traceparent"
"""The extension with a message's trace context; see `tracing`."""
UNSYNCHRONISED = ("clock", "unsynchronised")
"""The attribute of a frame or a face whose camera's clock was not synchronised."""


def is_time_known(attributes: Mapping[str, str]) -> bool:
    """Return whether the time in a frame's or a face's attributes came from a synchronised clock."""
    name, value = UNSYNCHRONISED
    return attributes.get(name) != value


def check_type(attributes: Mapping[str, str], expected: str) -> None:
    """Raise `Refused` (`bad_type`) unless the attributes are of this event type."""
    if attributes.get("specversion") != "1.0" or attributes.get("type") != expected:
        raise Refused("bad_type", f"{attributes.get('type', '')[:80]!r}, not {expected!r}")


def check_source(attributes: Mapping[str, str], source: Source) -> None:
    """Raise `Refused` (`bad_source`) unless the attribute agrees with the topic."""
    if attributes.get("source") != str(source):
        raise Refused("bad_source", f"{attributes.get('source', '')[:150]!r} on the topic of {source}")


def check_extensions(attributes: Mapping[str, str]) -> None:
    """Raise `Refused` (`bad_property`) unless names and values may become object metadata.

    Names are lower-case letters and digits (the specification's rule), values printable ASCII, which is
    what S3 takes in a header.
    """
    for name, value in attributes.items():
        if not _NAME.fullmatch(name) or not _VALUE.fullmatch(value):
            raise Refused("bad_property", repr(name[:40]))
