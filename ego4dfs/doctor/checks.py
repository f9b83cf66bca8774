"""One thing that was looked at, and looking at things within a bounded time."""

from __future__ import annotations

import enum
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

from ego4dfs.errors import Ego4DError, StoreUnavailable

Result = TypeVar("Result")


class State(enum.Enum):
    """How it is: as it should be, worth knowing, or in the way."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Check:
    """One row: what was looked at, how it is, what was found, and what to do.

    `error` is why it failed, for the exit code.
    """

    name: str
    state: State
    found: str
    remedy: str = ""
    error: Ego4DError | None = None

    @classmethod
    def failed(cls, name: str, error: Ego4DError, state: State = State.FAIL) -> Check:
        """Make the row of something that raised."""
        found = str(error).removeprefix(f"{getattr(error, 'url', '')}: ")
        return cls(name, state, found, error.hint, error if state is State.FAIL else None)


class Flight(Generic[Result]):
    """A call in a thread that nobody has to wait for, not even the end of the process."""

    def __init__(self, call: Callable[[], Result]) -> None:
        self._call = call
        self._result: Result | None = None
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def result(self, timeout_s: float) -> Result:
        """Return or raise what the call did. Raises StoreUnavailable when it takes longer."""
        self._thread.join(timeout_s)
        if self._thread.is_alive():
            raise StoreUnavailable(
                "no answer in time", hint="the network is slow or blocked: try again, or elsewhere"
            )
        if self._error is not None:
            raise self._error
        return self._result  # type: ignore[return-value]  # set wherever no error is

    def _run(self) -> None:
        try:
            self._result = self._call()
        except Exception as error:  # noqa: BLE001 - raised again where the result is asked for
            self._error = error


def outcomes(
    calls: Mapping[str, Callable[[], Result]], timeout_s: float
) -> dict[str, Result | Ego4DError]:
    """Make all calls at once and return what each gave or raised, within `timeout_s` in all."""
    deadline = time.monotonic() + timeout_s
    flights = {name: Flight(call) for name, call in calls.items()}
    found: dict[str, Result | Ego4DError] = {}
    for name, flight in flights.items():
        try:
            found[name] = flight.result(max(0.0, deadline - time.monotonic()))
        except Ego4DError as error:  # noqa: PERF203 - each has an outcome of its own
            found[name] = error
    return found
