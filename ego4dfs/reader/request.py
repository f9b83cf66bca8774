"""The bytes of one request, shared out to the blocks and parts that wait for them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable

from ego4dfs.errors import StoreUnavailable
from ego4dfs.reader.flights import Flight


class Request:
    """A sink that shares the bytes of one request out to its flights, in order."""

    def __init__(
        self, url: str, flights: Iterable[Flight], landed: Callable[[Flight], None]
    ) -> None:
        """Wait for all of `flights`, in order; `landed` is called with each that is complete."""
        self.waiting = deque(flights)  # for their last byte
        self._url, self._tell_landed = url, landed
        self._position = self.waiting[0].entry.start

    def __call__(self, offset: int, data: memoryview) -> None:
        """See Sink. Raises StoreUnavailable for bytes that are not the next ones."""
        while data:
            if offset != self._position or not self.waiting:
                raise StoreUnavailable(f"{self._url}: the store sent another range", url=self._url)
            flight = self.waiting[0]
            count = flight.arrive(data)
            data = data[count:]
            offset += count
            self._position = offset
            if offset == flight.entry.stop:
                self._landed()

    def land(self, start: int, data: memoryview) -> None:
        """Share out the whole answer, without a copy."""
        if start != self._position or start + len(data) != self.waiting[-1].entry.stop:
            return
        while self.waiting:
            entry = self.waiting[0].entry
            self.waiting[0].land(data[entry.start - start : entry.stop - start])
            self._landed()

    def check_end(self) -> None:
        """Raise StoreUnavailable when something is still to come."""
        if self.waiting:
            raise StoreUnavailable(f"{self._url}: the store sent another range", url=self._url)

    def _landed(self) -> None:
        self._tell_landed(self.waiting.popleft())
