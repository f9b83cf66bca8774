"""The result of one check, and calls with a time limit."""

from __future__ import annotations

import enum
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

from ego4dfs.errors import Ego4DError, StoreUnavailable

Result = TypeVar("Result")


class Level(enum.Enum):
    """How serious a result is."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Check:
    """One row of the report: what was checked, how serious it is, what was found, what to do.

    `error` is the reason of a failure; it decides the exit code.
    """

    name: str
    level: Level
    found: str
    remedy: str = ""
    error: Ego4DError | None = None

    @classmethod
    def failed(cls, name: str, error: Ego4DError, level: Level = Level.FAIL) -> Check:
        """Return the row of a check that raised."""
        found = str(error).removeprefix(f"{getattr(error, 'url', '')}: ")
        return cls(name, level, found, error.hint, error if level is Level.FAIL else None)


class TimedCall(Generic[Result]):
    """A call in a daemon thread: the caller waits for a limited time, the exit does not wait."""

    def __init__(self, call: Callable[[], Result]) -> None:
        self._call = call
        self._result: Result | None = None
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def result(self, timeout_s: float) -> Result:
        """Return or raise the outcome of the call. Raises StoreUnavailable when it takes longer."""
        self._thread.join(timeout_s)
        if self._thread.is_alive():
            raise StoreUnavailable(
                "no answer in time",
                hint="the network is slow or blocked: try again, or from another network",
            )
        if self._error is not None:
            raise self._error
        return self._result  # type: ignore[return-value]  # set if there is no error

    def _run(self) -> None:
        try:
            self._result = self._call()
        except Exception as error:  # noqa: BLE001 - `result` raises it
            self._error = error


def run_all(
    calls: Mapping[str, Callable[[], Result]], timeout_s: float
) -> dict[str, Result | Ego4DError]:
    """Make all calls at once; return what each returned or raised, within `timeout_s` in all."""
    deadline = time.monotonic() + timeout_s
    timed_calls = {name: TimedCall(call) for name, call in calls.items()}
    found: dict[str, Result | Ego4DError] = {}
    for name, timed_call in timed_calls.items():
        try:
            found[name] = timed_call.result(max(0.0, deadline - time.monotonic()))
        except Ego4DError as error:  # noqa: PERF203 - each call has its own outcome
            found[name] = error
    return found
