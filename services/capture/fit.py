"""How good a frame may be so that the brokers take it."""

from dataclasses import dataclass

CALM_FRAMES = 300


@dataclass(frozen=True, slots=True)
class Level:
    """How a frame is encoded.

    Attributes:
        quality: the best JPEG quality that is allowed; nothing: whatever is set, and a JPEG stays as its
            camera made it.
        reduction: by what the sides are divided: 1, 2, 4 or 8, which libjpeg does while it decodes.
    """

    quality: int | None = None
    reduction: int = 1

    @property
    def is_untouched(self) -> bool:
        """Whether a JPEG stays as its camera made it."""
        return self.quality is None


LEVELS = (Level(), Level(70), Level(50), Level(35), Level(60, 2), Level(60, 4), Level(60, 8))


class Fit:
    """Steps down when a frame is too large for a packet, and up again after a calm while."""

    def __init__(self) -> None:
        self._step = 0
        self._calm = 0

    @property
    def level(self) -> Level:
        """How to encode the next frame."""
        return LEVELS[self._step]

    def step_down(self) -> bool:
        """Encode worse from here on, for a frame was too large; say whether that is possible."""
        self._calm = 0
        if self._step + 1 == len(LEVELS):
            return False
        self._step += 1
        return True

    def note(self, size_bytes: int, limit_bytes: int) -> None:
        """Take note of a frame that fits: after many that are small the quality goes up a step."""
        self._calm = self._calm + 1 if size_bytes * 2 < limit_bytes else 0
        if self._step > 0 and self._calm >= CALM_FRAMES:
            self._calm = 0
            self._step -= 1
