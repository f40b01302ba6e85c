"""Which faces are good enough to be looked at: of a least size, of a least quality. Pure."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from services.common.errors import Refused
from services.common.storage.visit_lookup import Known

_PX = re.compile(r"[1-9]\d{0,4}", re.ASCII)
_QUALITY = re.compile(r"0\.\d{1,3}|1", re.ASCII)


@dataclass(frozen=True, slots=True)
class Sieve:
    """Holds back what is small or bad.

    Attributes:
        least_px: the least shorter side of a face in its frame, in pixels; 0: any.
        least_quality: the least quality of a picture, 0..1; 0: any, and also of those that have none.
    """

    least_px: int = 0
    least_quality: float = 0.0

    @classmethod
    def read(cls, query: Mapping[str, str]) -> Self:
        """Read an address's query.

        Raises:
            Refused: `bad_address`, where it was not written by `parts`.
        """
        px, quality = query.get("px", ""), query.get("quality", "")
        if px and not _PX.fullmatch(px):
            raise Refused("bad_address", "px")
        if quality and not _QUALITY.fullmatch(quality):
            raise Refused("bad_address", "quality")
        return cls(int(px or 0), float(quality or 0))

    @property
    def parts(self) -> dict[str, str]:
        """What an address says of it; `""` for what is not held back."""
        return {
            "px": str(self.least_px) if self.least_px else "",
            "quality": f"{self.least_quality:g}" if self.least_quality else "",
        }

    @property
    def is_open(self) -> bool:
        """Whether everything passes."""
        return not self.least_px and not self.least_quality

    def takes(self, known: Known) -> bool:
        """Say whether a face passes; one of which it is not known does not."""
        quality = known.part.quality if known.part else None
        is_large = not self.least_px or (known.side_px or 0) >= self.least_px
        return is_large and (not self.least_quality or (quality or 0.0) >= self.least_quality)


SIZES = ("40", "80", "120", "200")
QUALITIES = ("0.2", "0.4", "0.6", "0.8")
"""Those that pages offer; an address may name others."""

OPEN = Sieve()
"""Holds nothing back."""
