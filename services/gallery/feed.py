"""A page of faces by visit, as feeds give it. Values from devices are text and numbers, never markup."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from services.common.storage.keys import FaceKey
from services.common.storage.visits import Group, Picture
from services.common.wire import envelope, times
from services.gallery.album import Page
from services.gallery.filtering import FilteredPage
from services.gallery.pages import face_address, group_address, image_address
from services.gallery.selection import PageSelection
from services.gallery.visits import FacesByVisit

NAMES = "tag:faceferry.example,2026:"
"""What the names of visits and feeds begin with (RFC 4151). The domain is reserved (RFC 2606)."""


@dataclass(frozen=True, slots=True)
class Feed:
    """A page of faces by visit, with the addresses that it refers to.

    Attributes:
        selection: what was asked for.
        found: the page of faces.
        by_visit: the same faces by visit.
        address: returns the absolute address of a path.
        image: returns the absolute, signed address of an image's path.
    """

    selection: PageSelection
    found: FilteredPage
    by_visit: FacesByVisit
    address: Callable[[str], str]
    image: Callable[[str], str]

    @property
    def page(self) -> Page:
        """The page."""
        return self.found.page

    @property
    def older(self) -> PageSelection | None:
        """The older faces: of the same day, or of the nearest day before it with any; None without any."""
        if self.page.older is None and self.page.day_before is not None:
            return self.selection.at(self.page.day_before)
        return self.page.older

    @property
    def newer(self) -> PageSelection | None:
        """The newer faces of the same day; None without any."""
        return self.page.newer

    @property
    def updated(self) -> datetime:
        """When the newest picture was taken, UTC; 1970 where there is none."""
        return max((group.last for group in self.by_visit.groups), default=times.EPOCH)

    @property
    def missing(self) -> list[str]:
        """Which faces may be missing: names that docs/gallery.md explains."""
        found = {
            "last_minute": self.page.is_indexed,
            "more_cameras": not self.page.is_indexed and not self.page.camera_list.is_complete,
            "late_cameras": self.page.is_late,
            "late_visits": self.by_visit.is_late,
            "not_looked_at": self.found.is_cut,
        }
        return [name for name, is_so in found.items() if is_so]

    def name_of(self, group: Group) -> str:
        """Return the permanent, unique name of a visit, or of a face that belongs to none."""
        return f"{NAMES}{group.source}/{group.visit or group.best.key.id}"

    def as_json(self) -> dict[str, Any]:
        """Return the answer of `/faces.json`; docs/gallery.md explains it."""
        return {
            "day": self.page.day.isoformat() if self.page.day else None,
            "visits": [self._visit(group) for group in self.by_visit.groups],
            "missing": self.missing,
            "older": self.at("/faces.json", self.older),
            "newer": self.at("/faces.json", self.newer),
        }

    def at(self, path: str, selection: PageSelection | None) -> str | None:
        """Return the address of another page of the feed, or None where `selection` is None."""
        return None if selection is None else self.address(f"{path}{selection.query}")

    def page_of(self, group: Group) -> str:
        """Return the address of the page that shows a visit."""
        return self.address(group_address(group))

    def image_of(self, key: FaceKey) -> str:
        """Return the signed address of an image, which is valid for a time."""
        return self.image(image_address(key))

    def type_of(self, key: FaceKey) -> str | None:
        """Return the content type of an image; None where it is sealed."""
        return None if key.content_type == envelope.CONTENT_TYPE else key.content_type

    def _visit(self, group: Group) -> dict[str, Any]:
        return {
            "visit": group.visit,
            "device": group.source.device,
            "camera": group.source.camera,
            "began": times.rfc3339(group.began),
            "last": times.rfc3339(group.last),
            "best": group.best.key.id,
            "page": self.page_of(group),
            "pictures": [self._picture(picture) for picture in group.pictures],
        }

    def _picture(self, picture: Picture) -> dict[str, Any]:
        key, part = picture
        return {
            "id": key.id,
            "time": times.rfc3339(key.time),
            "key": str(key),
            "content_type": key.content_type,
            "shot": part.shot if part else None,
            "quality": part.quality if part else None,
            "image": self.image_of(key),
            "page": self.address(face_address(key)),
        }
