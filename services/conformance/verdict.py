"""What a client was found to do, right and wrong."""

from dataclasses import dataclass, field

MOST_DETAILS = 5
"""Of each rule so many different cases are shown: a client does the same thing wrong with each message."""


@dataclass(slots=True)
class _Rule:
    is_shown: bool = False
    wrong: dict[str, None] = field(default_factory=dict)


class Verdict:
    """Holds for each rule whether it was kept.

    Args:
        rules: what must hold, in the order in which it is told.
    """

    def __init__(self, rules: tuple[str, ...]) -> None:
        self._rules = {rule: _Rule() for rule in rules}
        self._notes: dict[str, None] = {}

    def expect(self, rule: str) -> None:
        """Add a rule: it holds for such a client."""
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
        """Note what is worth knowing and not wrong."""
        self._notes[text] = None

    def lines(self) -> list[str]:
        """Return it as text, a line for each rule and each way in which it was broken."""
        told = []
        for name, rule in self._rules.items():
            mark = "WRONG" if rule.wrong else "ok   " if rule.is_shown else "?    "
            told.append(f"{mark} {name}{'' if rule.wrong or rule.is_shown else ' (not seen)'}")
            told += [f"        {detail}" for detail in rule.wrong]
        return told + [f"note  {note}" for note in self._notes]
