from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Event:
    """A fault that happened: its name, when after the start, and for how long, in seconds.

    Attributes:
        sent_again: how often faces were sent to the cloud again for it; only known of one alone.
    """

    fault: str
    at_s: float
    lasts_s: float
    sent_again: int | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """What a run has shown.

    Attributes:
        seed: what all its chances came from.
        keep: which faces forward wanted: `every` or `visits`.
        asked: of how many faces it was asked before.
        answered: of how many of these it has said so.
        faces: published, each distinct.
        unoffered: faces that could not even be published, for none was taken any more.
        events: the faults, in order.
        lost: faces receipted or not that are not in the bucket.
        lost_of_receipted: those of them that forward had said it has.
        duplicates: objects with the bytes of another.
        differing: objects with other bytes than were published.
        unexpected: objects that nobody published.
        planted: faces that faults have put into the spool's file, and that must arrive as well.
        destroyed: those of them that a fault has destroyed there, and that did not arrive.
        spoilt: damaged rows that faults have put there.
        harms: how often the spool's file was damaged, by kind.
        requeues: how often what was set aside was put back.
        notes: what did not go as it should.
        resent_local: faces that the driver published more than once.
        resent_uplink: faces that forward sent to the cloud more than once.
        sendings_uplink: all sendings to the cloud, and
        sent_uplink: of how many faces they were.
        typical_s: the median from the first publication to the object.
        longest_s: the longest of them.
        crashes: how often a service ended by itself.
        missing: what could not be done on this machine, and why.
        seconds: how long it took.
        control_missed: changes to the bucket that the judge was shown afterwards, and did not see; nothing
            where the run was not perfect, and so nothing could be shown.
        unready: the share of the time in which each service was not ready.
    """

    seed: int
    keep: str
    asked: int
    answered: int
    faces: int
    unoffered: int
    events: tuple[Event, ...]
    lost: int
    lost_of_receipted: int
    duplicates: int
    differing: int
    unexpected: int
    planted: int
    destroyed: int
    spoilt: int
    harms: Mapping[str, int]
    requeues: int
    notes: tuple[str, ...]
    resent_local: int
    resent_uplink: int
    sendings_uplink: int
    sent_uplink: int
    typical_s: float
    longest_s: float
    crashes: Mapping[str, int]
    missing: Mapping[str, str]
    seconds: float = 0.0
    control_missed: tuple[str, ...] | None = None
    unready: Mapping[str, float] = field(default_factory=dict)

    @property
    def faults(self) -> Counter[str]:
        """How many of each kind happened."""
        return Counter(event.fault for event in self.events)

    @property
    def sent_again(self) -> int:
        """How often faces were sent to the cloud that had been before, by this forward or one before it."""
        return self.sendings_uplink - self.sent_uplink

    @property
    def is_perfect(self) -> bool:
        """Whether every face is in the bucket once, byte for byte, and nothing else is."""
        return not (self.unoffered or self.lost or self.duplicates or self.differing or self.unexpected)

    def as_text(self) -> str:
        """Return it for people."""
        times = " ".join(
            f"{each.at_s:.0f}s:{each.fault.replace(' ', '_')}"
            + ("" if each.sent_again is None else f"+{each.sent_again}")
            for each in self.events
        )
        faults = "\n".join(f"  {count:4}  {name}" for name, count in sorted(self.faults.items()))
        unready = " ".join(f"{name} {share:.0%}" for name, share in self.unready.items())
        return (
            f"seed {self.seed}, keep={self.keep} ({self.answered} of {self.asked} questions answered):"
            f" {self.faces} faces ({self.unoffered} more could not be published),"
            f" {len(self.events)} faults in {self.seconds:.0f} s:"
            f" {self.lost} lost ({self.lost_of_receipted} after a receipt), {self.duplicates} duplicates,"
            f" {self.differing} differing, {self.unexpected} unexpected\n"
            f"  published again by the driver {self.resent_local}, sent again by forward {self.resent_uplink}"
            f" ({self.sendings_uplink} sendings)\n"
            f"  put into the spool by faults {self.planted}, of which {self.destroyed} were destroyed there;"
            f" damaged rows {self.spoilt}; damage {dict(self.harms)}; put back {self.requeues} times;"
            f" changes that the judge did not see: {self.control_missed}\n"
            f"  until stored: median {self.typical_s:.2f} s, longest {self.longest_s:.1f} s;"
            f" ended by themselves: {dict(self.crashes)}; not ready: {unready}\n{faults}\n"
            f"  {times}"
            + "".join(f"\n  {each}" for each in self.notes)
            + "".join(f"\n  left out, {each}" for each in self.missing.values())
        )
