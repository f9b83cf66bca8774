"""Sink of one GET: the bytes of its response go to the blocks and parts that wait for them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable

from ego4dfs.errors import StoreUnavailable
from ego4dfs.reader.flight import Flight, GivenUpError
from ego4dfs.store import TOO_SLOW


class ResponseSink:
    """Passes the bytes of one response on to its flights, in order. Used from one thread."""

    def __init__(
        self,
        url: str,
        flights: Iterable[Flight],
        on_complete: Callable[[Flight], None],
        on_arrival: Callable[[], None],
    ) -> None:
        """Serve adjacent `flights`, in order; `on_complete` is called with each complete one.

        `on_arrival` is called with bytes that arrive, before a reader gets them.
        """
        self.incomplete = deque(flights)
        self._url = url
        self._on_complete = on_complete
        self._on_arrival = on_arrival
        self._position = self.incomplete[0].extent.start

    def __call__(self, offset: int, data: memoryview) -> None:
        """Take bytes as a Sink does.

        Raises StoreUnavailable if they are not the next ones, and GivenUpError, which ends the
        request, if a reader has given it up.
        """
        if self.incomplete and self.incomplete[0].is_given_up:
            raise GivenUpError(f"{self._url}: {TOO_SLOW}", url=self._url)
        while data:
            if offset != self._position or not self.incomplete:
                raise self._wrong_range()
            self._on_arrival()
            flight = self.incomplete[0]
            count = flight.append(data)
            data = data[count:]
            offset += count
            self._position = offset
            if offset == flight.extent.stop:
                self._on_complete(self.incomplete.popleft())

    def take_all(self, start: int, data: memoryview) -> None:
        """Pass on a whole response, without a copy; one of another range is ignored."""
        if start != self._position or start + len(data) != self.incomplete[-1].extent.stop:
            return
        self._on_arrival()
        while self.incomplete:
            extent = self.incomplete[0].extent
            self.incomplete[0].complete(data[extent.start - start : extent.stop - start])
            self._on_complete(self.incomplete.popleft())

    def check_complete(self) -> None:
        """Raise StoreUnavailable if a flight has not received all of its bytes."""
        if self.incomplete:
            raise self._wrong_range()

    def _wrong_range(self) -> StoreUnavailable:
        return StoreUnavailable(f"{self._url}: the store sent another range", url=self._url)
