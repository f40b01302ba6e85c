from collections.abc import Iterator, Sequence

from tests.custody.proxy import HttpAnswer, Mode, Proxy, Shape


class Ways:
    """Several proxies, to which all that is done is done at once; see `Proxy`."""

    def __init__(self, proxies: Sequence[Proxy] = ()) -> None:
        self._proxies = proxies

    def __getitem__(self, at: int) -> Proxy:
        return self._proxies[at]

    def __iter__(self) -> Iterator[Proxy]:
        return iter(self._proxies)

    def __len__(self) -> int:
        return len(self._proxies)

    def set_mode(self, mode: Mode) -> None:
        """Have all bytes passed on, or swallowed."""
        for each in self:
            each.mode = mode

    def set_shape(self, shape: Shape | None) -> None:
        """Give each a bottleneck of its own, of this shape."""
        for each in self:
            each.shape = shape

    def set_answer(self, answer: HttpAnswer | None) -> None:
        """Have every request answered so, or its server asked."""
        for each in self:
            each.answer = answer

    def cut(self) -> None:
        """Reset every connection."""
        for each in self:
            each.cut()

    async def refuse(self) -> None:
        """Take no connections, and reset those that are there."""
        for each in self:
            await each.refuse()

    async def listen(self) -> None:
        """Take connections."""
        for each in self:
            await each.listen()
