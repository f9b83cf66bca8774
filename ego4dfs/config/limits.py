"""Limits of what a process asks of a store: bytes and requests per second."""

from __future__ import annotations

import re

from ego4dfs.config.values import Given, parse_size
from ego4dfs.errors import ConfigError

MIN_BYTES_PER_S = 1_000_000
"""With less, a request of 8 MiB would be the only one for longer than a call may take."""
MIN_REQUESTS_PER_S = 10.0
"""With less, the requests of a few dozen readers would wait longer than a call may take."""

_MAX = 1e15
_NUMBER = re.compile(r"\d{1,12}(?:\.\d{1,6})?", re.ASCII)


def bytes_per_s(given: Given) -> int:
    """Read a rate such as `200MB/s` or `25MiB/s`; an empty string means no limit: 0."""
    if given.value == "":
        return 0
    try:
        number = parse_size(str(given.value).strip().removesuffix("/s"))
    except ConfigError as error:
        raise _no_rate(given, error.hint) from None
    if isinstance(given.value, bool) or not MIN_BYTES_PER_S <= number <= _MAX:
        raise _no_rate(given, "write it like 200MB/s; MB are bytes: 8 Mbit are 1 MB")
    return number


def requests_per_s(given: Given) -> float:
    """Read a number of requests per second, `500/s` or `500`; empty means no limit: 0."""
    if given.value == "":
        return 0.0
    found = _NUMBER.fullmatch(str(given.value).strip().removesuffix("/s"))
    if found is None or not MIN_REQUESTS_PER_S <= float(found[0]) <= _MAX:
        expected = f"at least {MIN_REQUESTS_PER_S:.0f} requests per second"
        raise given.invalid(expected, "write it like 500/s")
    return float(found[0])


def _no_rate(given: Given, hint: str) -> ConfigError:
    return given.invalid(f"a rate of at least {MIN_BYTES_PER_S // 1_000_000}MB/s", hint)
