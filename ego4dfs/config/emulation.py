"""Emulation: the latency, bandwidth and failures that `--emulate` adds to a store."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from ego4dfs.config.values import Given, closest, parse_size, text
from ego4dfs.errors import ConfigError

CUT = "cut"
FAILURES = ("500", "503", CUT)
"""How a request can fail: an HTTP status, or half of a body. Not 403 and 404: stores do not answer
these by chance, and they are remembered."""
MAX_RTT_S = 10.0
MIN_BYTES_PER_S = 1_000_000
"""So a body of 8 MiB, the longest that is not streamed, arrives within the limit of a request."""
HINT = "write it like rtt=30ms,rate=80MB/s,fail=503:1%"


@dataclass(frozen=True, slots=True)
class Emulation:
    """What is added to the behaviour of a store; the default adds nothing.

    Each request waits `rtt_s`; its body then arrives with `bytes_per_s`, 0 for no limit.
    `failures` has the share of requests, from 0 to 1, that fail in each way of FAILURES. With the
    same `seed`, the same requests of a sequential program fail.
    """

    rtt_s: float = 0.0
    bytes_per_s: int = 0
    failures: tuple[tuple[str, float], ...] = ()
    seed: int = 1

    def __bool__(self) -> bool:
        """Whether anything is changed."""
        return bool(self.rtt_s or self.bytes_per_s or self.failures)

    def __str__(self) -> str:
        """Return it for people: `30 ms, 80 MB/s, 1% of requests fail with 503`."""
        shown = [f"{self.rtt_s * 1000:g} ms"] if self.rtt_s else []
        if self.bytes_per_s:
            shown.append(f"{self.bytes_per_s / 1e6:g} MB/s per request")
        for kind, share in self.failures:
            what = "answers are cut" if kind == CUT else f"requests fail with {kind}"
            shown.append(f"{share * 100:.4g}% of {what}")
        return ", ".join(shown)


NO_EMULATION = Emulation()


def emulation(given: Given) -> Emulation:
    """Read an Emulation; an empty string is none. Raises ConfigError."""
    found = NO_EMULATION
    for item in text(given).split(",") if given.value != "" else ():
        name, _, value = item.strip().partition("=")
        try:
            reader = _READERS[name]
        except KeyError:
            where = Given(name, given.where)
            raise where.invalid(
                "rtt, rate, fail or seed", closest(name, _READERS) if name else HINT
            ) from None
        try:
            found = reader(found, value.strip())
        except ValueError:
            raise Given(item, given.where).invalid(_EXPECTED[name], HINT) from None
        except ConfigError as error:
            raise Given(item, given.where).invalid(_EXPECTED[name], error.hint) from None
    if round(sum(share for _, share in found.failures), 9) > 1:
        raise given.invalid("failures of at most 100% in all", HINT)
    return found


def _rtt(before: Emulation, value: str) -> Emulation:
    number = re.fullmatch(r"(\d{1,5}(?:\.\d{1,3})?)(ms|s)", value, re.ASCII)
    seconds = float(number[1]) * (0.001 if number[2] == "ms" else 1) if number else -1
    return replace(before, rtt_s=_between(0, seconds, MAX_RTT_S))


def _rate(before: Emulation, value: str) -> Emulation:
    size = parse_size(value.removesuffix("/s"))
    return replace(before, bytes_per_s=int(_between(MIN_BYTES_PER_S, size, 1e15)))


def _fail(before: Emulation, value: str) -> Emulation:
    kind, _, share = value.partition(":")
    number = re.fullmatch(r"(\d{1,3}(?:\.\d{1,6})?)%", share, re.ASCII)
    if kind not in FAILURES or number is None:
        raise ValueError(value)
    failure = (kind, _between(1e-9, float(number[1]) / 100, 1))
    return replace(before, failures=(*before.failures, failure))


def _seed(before: Emulation, value: str) -> Emulation:
    if not re.fullmatch(r"\d{1,18}", value, re.ASCII):
        raise ValueError(value)
    return replace(before, seed=int(value))


def _between(least: float, value: float, most: float) -> float:
    if not least <= value <= most:
        raise ValueError(value)
    return value


_READERS: Mapping[str, Callable[[Emulation, str], Emulation]] = {
    "rtt": _rtt,
    "rate": _rate,
    "fail": _fail,
    "seed": _seed,
}
_EXPECTED: Mapping[str, str] = {
    "rtt": "a round-trip time up to 10s, such as rtt=30ms",
    "rate": "a rate of at least 1MB/s, such as rate=80MB/s",
    "fail": f"one of {', '.join(FAILURES)} and a share, such as fail=503:1%",
    "seed": "a whole number, such as seed=7",
}
