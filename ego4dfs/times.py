"""Times in videos, as people write them: `600`, `10:00`, `00:10:00.5`."""

from __future__ import annotations

import re

from ego4dfs.errors import ConfigError

_SECONDS = r"(?:\.[0-9]{1,9})?"
_TIME = re.compile(
    rf"[0-9]{{1,9}}{_SECONDS}|(?:[0-9]{{1,4}}:)?[0-9]{{1,4}}:[0-5]?[0-9]{_SECONDS}", re.ASCII
)
_SHOWN = 100  # characters of a wrong value in a message


def parse_time(text: str, where: str) -> float:
    """Return the seconds of a time: seconds, minutes and seconds, or hours, minutes and seconds.

    Raises ConfigError, which begins with `where`, for anything else.
    """
    if not _TIME.fullmatch(text.strip()):
        raise ConfigError(
            f"{where}: {text[:_SHOWN]!r} is not a time",
            hint="write it like 600, 10:00 or 00:10:00.5",
        )
    seconds = 0.0
    for part in text.strip().split(":"):
        seconds = 60 * seconds + float(part)
    return seconds


def plain_seconds(seconds: float) -> str:
    """Return seconds with at most three decimals: `600`, `600.5`."""
    return f"{seconds:.3f}".rstrip("0").rstrip(".")
