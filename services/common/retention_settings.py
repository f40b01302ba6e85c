from typing import Annotated

from pydantic import AfterValidator, Field

from services.common.retention import FOREVER, Retention, parse_retention
from services.common.runtime.settings import Settings


def checked_days(text: str) -> str:
    """Return the text of a number of days, or `forever`.

    Raises:
        ValueError: it is neither; says what is wanted.
    """
    parse_retention(text)
    return text


class RetentionSettings(Settings):
    """What everybody has to agree on who holds faces or shows them."""

    retain_days: Annotated[str, AfterValidator(checked_days)] = Field(
        FOREVER,
        description="days that a face is kept, wherever it is, from when its frame was taken; or forever",
    )

    @property
    def retention(self) -> Retention:
        """For how long faces are kept."""
        return parse_retention(self.retain_days)
