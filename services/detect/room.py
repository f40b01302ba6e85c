import contextlib
import threading
from collections.abc import Iterator


class Room:
    """A bounded amount of something that threads hold a part of for a while; who finds too little waits.

    Args:
        most: all there is. Who wants more gets all of it.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._free = most
        self._changed = threading.Condition()

    @contextlib.contextmanager
    def holding(self, amount: int) -> Iterator[None]:
        """Hold so much; never to be asked for more by one that holds some."""
        amount = min(amount, self._most)
        with self._changed:
            self._changed.wait_for(lambda: self._free >= amount)
            self._free -= amount
        try:
            yield
        finally:
            with self._changed:
                self._free += amount
                self._changed.notify_all()
