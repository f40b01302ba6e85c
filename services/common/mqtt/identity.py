import secrets

TOO_SHORT_LIVED = 3
"""So many connections in a row that were none look as if another client had our id."""


class Identity:
    """The client id of a link: the same for all its connections, as long as nobody else has it.

    Args:
        name: `{service}-{device}`; a random end makes it unique to the process.

    Attributes:
        name: that.
        client_id: with that end.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.client_id = _mint(name)
        self._short_lived = 0

    def ended(self, *, is_short: bool, is_taken_over: bool) -> None:
        """Note that a connection has ended which had been up.

        We have no other that is alive: if another has taken it over, somebody else has this id, as a copy of
        a running machine has. Taking it back would go on for ever. Not every broker says that this is it.

        Args:
            is_short: it was none to speak of.
            is_taken_over: the broker says that another has connected with its id.
        """
        self._short_lived = self._short_lived + 1 if is_short else 0
        if is_taken_over or self._short_lived >= TOO_SHORT_LIVED:
            self.client_id = _mint(self.name)
            self._short_lived = 0


def _mint(name: str) -> str:
    return f"{name}-{secrets.token_hex(4)}"
