"""What the processes of a soak run keep: the least that each used in a quarter of the run.

What a process uses above that belongs to calls that run: the connections of a mount are twenty
under one fault and none under the next, so their mean follows the faults, and a single sample even
more. What leaks is never given back, so it raises the least.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from kit.soak.resources import Sample

USED = {"rss_mib": "RSS MiB", "files": "files", "sockets": "sockets", "threads": "threads"}
MAX_GROWTH = 0.05  # from the third quarter to the fourth
COMPARED_FROM_S = 420.0
"""Of shorter runs nothing is compared: memory and threads grow until they were needed once, and a
quarter has to be longer than the minute in which one leaks."""


@dataclass(frozen=True)
class Kept:
    """What one process used: at the begin, least in the last two quarters, and at most."""

    begin: float
    third: float
    fourth: float
    largest: float
    is_one_process: bool  # one that was started again in these quarters grows as at each start

    @property
    def growth(self) -> float:
        """The growth from the third quarter to the fourth, as a share."""
        return self.fourth / self.third - 1 if self.third else float(self.fourth > 0)

    def __str__(self) -> str:
        values = f"{self.begin:.0f} {self.third:.0f} {self.fourth:.0f}"
        change = f" ({self.growth:+.0%})" if self.is_one_process else ""
        return f"{values}{change} ≤{self.largest:.0f}"


def kept(samples: Sequence[Sample], what: str) -> Kept:
    """Return what the samples of one process show of `what`, a key of USED."""
    quarter = max(1, len(samples) // 4)
    last, third = samples[-quarter:], samples[-2 * quarter : -quarter] or samples[:1]
    values = [getattr(sample, what) for sample in samples]
    return Kept(
        values[0],
        min(getattr(sample, what) for sample in third),
        min(getattr(sample, what) for sample in last),
        max(values),
        len({sample.pid for sample in (*third, *last)}) == 1,
    )


def growing(samples: Mapping[str, Sequence[Sample]]) -> Iterator[str]:
    """Yield what grew from the third quarter to the fourth by more than MAX_GROWTH."""
    for name, some in samples.items():
        if some[-1].at_s - some[0].at_s < COMPARED_FROM_S:
            continue
        for what, title in USED.items():
            found = kept(some, what)
            if found.is_one_process and found.growth > MAX_GROWTH:
                yield f"{name}: {title}: {found}"
