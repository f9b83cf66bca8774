"""How often and how long a request is tried again."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from ego4dfs.errors import StoreUnavailable
from ego4dfs.store.breaker import CircuitOpen

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Patience:
    """At most `attempts`, none begun later than `timeout_s` after the first."""

    attempts: int
    timeout_s: float
    wait_initial_s: float = 0.25

    def spend(self, call: Callable[[], Result]) -> Result:
        """Return what `call` returns, tried again with back-off and jitter while it may pass."""
        try:
            return call()
        except StoreUnavailable as error:
            if not passing(error):
                raise
            return self._spend_rest(call, error)

    def _spend_rest(self, call: Callable[[], Result], failed: StoreUnavailable) -> Result:
        """Go on after a first attempt that `failed`; stamina's import is for this case only."""
        import stamina  # noqa: PLC0415

        # stamina tells each retry as a warning; whoever configured logging still gets it.
        logging.getLogger("stamina").addHandler(_SILENT)
        first: StoreUnavailable | None = failed
        for attempt in stamina.retry_context(
            on=passing,
            attempts=self.attempts,
            timeout=self.timeout_s,
            wait_initial=self.wait_initial_s,
            wait_max=4.0,
            wait_jitter=self.wait_initial_s,
        ):
            with attempt:
                if first is not None:
                    error, first = first, None
                    raise error
                return call()
        raise failed


def passing(error: Exception) -> bool:
    """Tell whether another attempt may succeed."""
    return isinstance(error, StoreUnavailable) and not isinstance(error, CircuitOpen)


_SILENT = logging.NullHandler()
OBJECTS = Patience(attempts=5, timeout_s=20.0)
# A manifest that was read before is kept: better that copy soon than the newest late.
MANIFESTS = Patience(attempts=2, timeout_s=10.0)
