"""Sink of one request: its bytes go to the blocks and parts that wait for them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable

from ego4dfs.errors import StoreUnavailable
from ego4dfs.reader.flight import Flight, GivenUpError
from ego4dfs.store import TOO_SLOW


class ResponseSink:
    """Passes the bytes of one request on to its flights, in order. Used from one thread."""

    def __init__(
        self,
        url: str,
        flights: Iterable[Flight],
        on_complete: Callable[[Flight, bool], None],
        on_arrival: Callable[[], None],
    ) -> None:
        """Serve adjacent `flights`, in order.

        `on_complete` is called with each complete one, and whether bytes of it have been fetched.
        `on_arrival` is called with bytes that arrive, before a reader gets them.
        """
        self.incomplete = deque(flights)
        self._url = url
        self._on_complete = on_complete
        self._on_arrival = on_arrival
        self._position = self.incomplete[0].extent.start
        self._is_fetched = False  # whether bytes of the first incomplete flight were

    @property
    def position(self) -> int:
        """Where the next bytes belong in the object."""
        return self._position

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
            self._is_fetched = True
            count = self._append(data)
            data = data[count:]
            offset += count

    def add_cached(self, data: memoryview) -> None:
        """Take the next bytes, which another process has fetched and cached."""
        while data:
            data = data[self._append(data) :]

    def take_all(self, start: int, stop: int, data: memoryview) -> None:
        """Pass on a whole response, without copies of whole blocks; another range is ignored."""
        if start != self._position or start + len(data) != stop:
            return
        self._on_arrival()
        while data:
            self._is_fetched = True
            flight = self.incomplete[0]
            if self._position == flight.extent.start and len(data) >= len(flight):
                flight.complete(data[: len(flight)])
                count = len(flight)
                self._advance(count)
            else:
                count = self._append(data)
            data = data[count:]

    def _append(self, data: memoryview) -> int:
        """Add bytes to the first incomplete flight; return how many of them belong to it."""
        count = self.incomplete[0].append(data)
        self._advance(count)
        return count

    def _advance(self, count: int) -> None:
        self._position += count
        if self._position == self.incomplete[0].extent.stop:
            is_fetched, self._is_fetched = self._is_fetched, False
            self._on_complete(self.incomplete.popleft(), is_fetched)

    def check_complete(self) -> None:
        """Raise StoreUnavailable if a flight has not received all of its bytes."""
        if self.incomplete:
            raise self._wrong_range()

    def _wrong_range(self) -> StoreUnavailable:
        return StoreUnavailable(f"{self._url}: the store sent another range", url=self._url)
