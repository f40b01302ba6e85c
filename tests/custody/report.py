from collections import Counter
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Event:
    """A fault that happened: its name, when after the start, and for how long, in seconds."""

    fault: str
    at_s: float
    lasts_s: float


@dataclass(frozen=True, slots=True)
class Report:
    """What a run has shown.

    Attributes:
        seed: what all its chances came from.
        seconds: how long it took.
        faces: published, each distinct.
        events: the faults, in order.
        lost: faces receipted or not that are not in the bucket.
        duplicates: objects with the bytes of another.
        differing: objects with other bytes than were published.
        unexpected: objects that nobody published.
        resent_local: faces that the driver published more than once.
        resent_uplink: faces that forward sent to the cloud more than once.
        sendings_uplink: all sendings to the cloud.
        typical_s: the median from the first publication to the object.
        longest_s: the longest of them.
        crashes: how often a service ended by itself.
        missing: what could not be done on this machine, and why.
    """

    seed: int
    seconds: float
    faces: int
    events: tuple[Event, ...]
    lost: int
    duplicates: int
    differing: int
    unexpected: int
    resent_local: int
    resent_uplink: int
    sendings_uplink: int
    typical_s: float
    longest_s: float
    crashes: dict[str, int]
    missing: dict[str, str]

    @property
    def faults(self) -> Counter[str]:
        """How many of each kind happened."""
        return Counter(event.fault for event in self.events)

    @property
    def is_perfect(self) -> bool:
        """Whether every face is in the bucket once, byte for byte, and nothing else is."""
        return not (self.lost or self.duplicates or self.differing or self.unexpected)

    def as_text(self) -> str:
        """Return it for people."""
        times = " ".join(f"{each.at_s:.0f}s:{each.fault.replace(' ', '_')}" for each in self.events)
        faults = "\n".join(f"  {count:4}  {name}" for name, count in sorted(self.faults.items()))
        return (
            f"seed {self.seed}: {self.faces} faces, {len(self.events)} faults in {self.seconds:.0f} s:"
            f" {self.lost} lost, {self.duplicates} duplicates, {self.differing} differing,"
            f" {self.unexpected} unexpected\n"
            f"  published again by the driver {self.resent_local}, sent again by forward {self.resent_uplink}"
            f" ({self.sendings_uplink} sendings)\n"
            f"  until stored: median {self.typical_s:.2f} s, longest {self.longest_s:.1f} s;"
            f" ended by themselves: {self.crashes}\n{faults}\n"
            f"  {times}" + "".join(f"\n  left out, {each}" for each in self.missing.values())
        )
