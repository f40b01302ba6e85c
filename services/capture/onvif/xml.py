"""XML of whoever answers: bounded, without a document type, and looked at by local names.

The same element has other namespaces in other versions of a service, and cameras mix them up.
"""

from collections.abc import Iterator
from xml.etree.ElementTree import Element, ParseError, fromstring

MOST_BYTES = 256 * 1024


class NotXml(ValueError):
    """What came is no XML that is read."""


def parse(data: bytes) -> Element:
    """Return a document's root.

    Raises:
        NotXml: it is none, is too large, or may bring definitions of its own along.
    """
    if len(data) > MOST_BYTES:
        raise NotXml("more than a camera has to say")
    if b"\0" in data or b"<!" in data.replace(b"<!--", b"").replace(b"<![CDATA[", b""):
        raise NotXml("a document type, which no SOAP message has")
    try:
        return fromstring(data)  # noqa: S314 - without a document type there are no entities
    except (ParseError, ValueError, LookupError) as error:  # an encoding may be one that nobody knows
        raise NotXml(str(error)) from error


def name(element: Element) -> str:
    """Return an element's name without its namespace."""
    return element.tag.rpartition("}")[2]


def every(element: Element, wanted: str) -> Iterator[Element]:
    """Yield all elements of a name below another."""
    return (each for each in element.iter() if name(each) == wanted)


def first(element: Element | None, *path: str) -> Element | None:
    """Return the first element of the last name below the first of the one before, and so on."""
    for wanted in path:
        element = None if element is None else next(every(element, wanted), None)
    return element


def text(element: Element | None, *path: str) -> str:
    """Return what stands in `first`, without space around it; empty where it is missing."""
    found = first(element, *path)
    return ((found.text if found is not None else None) or "").strip()
