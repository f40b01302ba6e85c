"""The findings about a client: the rules that it kept and broke."""

from dataclasses import dataclass, field

MOST_DETAILS = 5
"""Different cases shown for each rule, because a client makes the same error with each message."""


@dataclass(slots=True)
class _Rule:
    is_shown: bool = False
    wrong: dict[str, None] = field(default_factory=dict)


class Verdict:
    """Keeps for each rule whether it was seen to be kept or broken.

    Args:
        rules: their texts, in the order of the report.
    """

    def __init__(self, rules: tuple[str, ...]) -> None:
        self._rules = {rule: _Rule() for rule in rules}
        self._notes: dict[str, None] = {}

    def expect(self, rule: str) -> None:
        """Add a rule that applies to this client."""
        self._rules.setdefault(rule, _Rule())

    @property
    def is_fine(self) -> bool:
        """Whether each rule was seen to be kept, and none to be broken."""
        return all(rule.is_shown and not rule.wrong for rule in self._rules.values())

    def knows(self, rule: str) -> bool:
        """Say whether a rule was seen to be kept, or to be broken."""
        return self._rules[rule].is_shown or bool(self._rules[rule].wrong)

    def kept(self, rule: str) -> None:
        """Note that a rule was kept."""
        self._rules[rule].is_shown = True

    def broken(self, rule: str, detail: str) -> None:
        """Note that a rule was broken, and how."""
        wrong = self._rules[rule].wrong
        if len(wrong) < MOST_DETAILS:
            wrong[detail] = None

    def note(self, text: str) -> None:
        """Add a note about something that is not wrong."""
        self._notes[text] = None

    def lines(self) -> list[str]:
        """Return the report: a line for each rule, and for each case in which it was broken."""
        told = []
        for name, rule in self._rules.items():
            mark = "WRONG" if rule.wrong else "ok   " if rule.is_shown else "?    "
            told.append(f"{mark} {name}{'' if rule.wrong or rule.is_shown else ' (not seen)'}")
            told += [f"        {detail}" for detail in rule.wrong]
        return told + [f"note  {note}" for note in self._notes]
