"""How often and how long a request is tried again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from threading import Event
from typing import TypeVar

from ego4dfs.errors import StoreUnavailable
from ego4dfs.store.breaker import CircuitOpen

Result = TypeVar("Result")

WAIT_MAX_S = 4.0


@dataclass(frozen=True, slots=True)
class Patience:
    """At most `attempts`, none begun later than `timeout_s` after the first."""

    attempts: int
    timeout_s: float
    wait_initial_s: float = 0.25

    def spend(self, call: Callable[[], Result], stop: Event) -> Result:
        """Return what `call` returns, tried again with back-off and jitter while it may pass.

        Once `stop` is set nothing is waited for or tried again: the last failure is raised.
        """
        try:
            return call()
        except StoreUnavailable as error:
            if stop.is_set() or not passing(error):
                raise
            return self._spend_rest(call, stop, error)

    def _spend_rest(
        self, call: Callable[[], Result], stop: Event, failed: StoreUnavailable
    ) -> Result:
        """Go on after a first attempt that `failed`; tenacity's import is for this case only."""
        import tenacity  # noqa: PLC0415

        back_off = tenacity.wait_exponential(self.wait_initial_s, max=WAIT_MAX_S)
        jitter = tenacity.wait_random(0, min(self.wait_initial_s, WAIT_MAX_S))
        first = True
        for attempt in tenacity.Retrying(
            retry=tenacity.retry_if_exception(passing),
            stop=tenacity.stop_any(
                tenacity.stop_after_attempt(self.attempts),
                tenacity.stop_after_delay(self.timeout_s),
                tenacity.stop_when_event_set(stop),
            ),
            wait=back_off + jitter,
            sleep=tenacity.sleep_using_event(stop),
            reraise=True,
        ):
            with attempt:
                if first or stop.is_set():
                    first = False
                    raise failed
                try:
                    return call()
                except StoreUnavailable as error:
                    failed = error
                    raise
        raise failed


def passing(error: BaseException) -> bool:
    """Tell whether another attempt may succeed."""
    return isinstance(error, StoreUnavailable) and not isinstance(error, CircuitOpen)


OBJECTS = Patience(attempts=5, timeout_s=20.0)
# A manifest that was read before is kept: better that copy soon than the newest late.
MANIFESTS = Patience(attempts=2, timeout_s=10.0)
