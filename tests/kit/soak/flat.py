"""What the processes of a soak run keep at rest: in the middle of the run and at its end.

What a process uses while it reads belongs to calls that run, and to pools that keep threads and
connections for as long as they may be needed again: both follow the faults, so neither a sample nor
the mean of minutes shows a leak. At rest there is nothing but what is kept.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from kit.soak.resources import Sample

USED = {"rss_mib": "RSS MiB", "files": "files", "sockets": "sockets", "threads": "threads"}
MAX_GROWTH = 0.05  # from the first rest to the second
MEMORY_AFTER_S = 600.0
"""Memory is compared if the rests are so far apart: in its first minutes a process still grows, to
the most that its calls have needed at one moment."""
Rest = tuple[float, float]
"""The seconds of a run from which to which its processes rest and pools have ended what is idle."""


@dataclass(frozen=True)
class Kept:
    """What one process used: at the begin, least in each rest, and at most."""

    begin: float
    rests: tuple[float, ...]
    largest: float
    is_one_process: bool  # one that was started again between two rests grows as at each start

    @property
    def growth(self) -> float:
        """The growth from the first rest to the last one, as a share."""
        first, last = self.rests[0], self.rests[-1]
        return last / first - 1 if first else float(last > 0)

    @property
    def is_compared(self) -> bool:
        """Whether there are two rests of one process."""
        return self.is_one_process and len(self.rests) > 1

    def __str__(self) -> str:
        values = " ".join(f"{value:.0f}" for value in (self.begin, *self.rests))
        change = f" ({self.growth:+.0%})" if self.is_compared else ""
        return f"{values}{change} ≤{self.largest:.0f}"


def kept(samples: Sequence[Sample], rests: Sequence[Rest], what: str) -> Kept:
    """Return what the samples of one process show of `what`, a key of USED."""
    parts = [[s for s in samples if start <= s.at_s <= stop] for start, stop in rests]
    values = [getattr(sample, what) for sample in samples]
    return Kept(
        values[0],
        tuple(min(getattr(sample, what) for sample in part) for part in parts if part),
        max(values),
        len({sample.pid for part in parts for sample in part}) == 1,
    )


def growing(samples: Mapping[str, Sequence[Sample]], rests: Sequence[Rest]) -> Iterator[str]:
    """Yield what grew from one rest to the other by more than MAX_GROWTH."""
    is_short = bool(rests) and rests[-1][0] - rests[0][0] < MEMORY_AFTER_S
    compared = {what: title for what, title in USED.items() if what != "rss_mib" or not is_short}
    for name, some in samples.items():
        for what, title in compared.items():
            found = kept(some, rests, what)
            if found.is_compared and found.growth > MAX_GROWTH:
                yield f"{name}: {title}: {found}"
