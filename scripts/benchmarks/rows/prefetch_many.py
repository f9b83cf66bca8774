"""Many files: the cost of a run with nothing to do, and of planning a run."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache, partial

from benchmarks import measure, peers, samples
from benchmarks.copiers import Copier, copiers
from benchmarks.goals import at_most
from benchmarks.row import Contender, Goal, Outcome, Row, Sample
from benchmarks.samples import VERSION, Dataset
from benchmarks.servers import Servers

_AGAIN = 10_000
_PLANS = (1_000, 10_000, 100_000)
_MOST_BYTES = 1_000  # only the number of files matters here
_MOST_MIB = 300
# Peers that send a request for each object, and the plan of 100,000 files, take a minute a run.
_ROUNDS_OF_THE_SLOW = 1


@cache
def _many(servers: Servers, count: int) -> Dataset:
    """Publish `count` tiny files, once in a run of the benchmark."""
    sizes = (number % _MOST_BYTES for number in range(count))
    return samples.publish_files(servers.s3, f"many_{count}", sizes)


@contextmanager
def _again(servers: Servers) -> Iterator[Sequence[Contender]]:
    """Give each tool a whole copy, as `ego4dfs prefetch` left it, to be brought up to date."""
    samples.publish_metadata(servers.s3)
    dataset = _many(servers, _AGAIN)
    ours, *others = (copier for copier in copiers() if copier.name != "rclone copy")
    first = servers.empty("again-0")
    cache_dir = servers.empty("again-cache")
    environment = ours.environment(servers, "wan", cache_dir)
    measure.sample(servers, "wan", ours.command(dataset, first), environment)
    copies = {ours.name: first}
    for number, other in enumerate(others, 1):
        copies[other.name] = servers.empty(f"again-{number}")
        shutil.copytree(first, copies[other.name], dirs_exist_ok=True)

    def again(copier: Copier) -> Sample:
        place = copies[copier.name]
        out = place / VERSION.partition("_")[0] / dataset.name if copier.object_names else place
        environment = copier.environment(servers, "wan", cache_dir)
        found = measure.sample(servers, "wan", copier.command(dataset, out), environment)
        dataset.check(place)
        return found

    yield [
        Contender(
            c.name, partial(again, c), c.tool.missing, _ROUNDS_OF_THE_SLOW if c in others else None
        )
        for c in (ours, *others)
    ]
    for path in copies.values():
        shutil.rmtree(path)


@contextmanager
def _plans(servers: Servers) -> Iterator[Sequence[Contender]]:
    """Plan copies of more and more files, none of which exists or is known."""
    samples.publish_metadata(servers.s3)
    ours = copiers()[0]
    datasets = {count: _many(servers, count) for count in _PLANS}

    def plan(count: int) -> Sample:
        command = [*ours.command(datasets[count], servers.empty("out")), "--dry-run"]
        environment = ours.environment(servers, "lan", servers.empty("cache"))
        return measure.sample(servers, "lan", command, environment)

    yield [
        Contender(
            _plan_of(count),
            partial(plan, count),
            peers.ego4dfs().missing,
            _ROUNDS_OF_THE_SLOW if count == max(_PLANS) else None,
        )
        for count in _PLANS
    ]


def _plan_of(count: int) -> str:
    return f"ego4dfs prefetch --dry-run, {count:,} files"


def _growth(outcome: Outcome) -> float | None:
    """Return the CPU time per file of the largest plan, divided by that of the next smaller one."""
    smaller, largest = _PLANS[-2:]
    results = [outcome.result(_plan_of(count)) for count in (smaller, largest)]
    before, after = (result.median("cpu_s") if result else None for result in results)
    return after / before * smaller / largest if before and after else None


_GOALS_AGAIN = (
    at_most("at most 1.5 s", "wall_s", 1.5),
    at_most("at most 2 requests, for ego4d.json and the manifest", "requests", 2),
)
_GOALS_PLAN = (
    at_most(
        f"at most {_MOST_MIB} MiB for 100,000 files", "peak_mib", _MOST_MIB, _plan_of(_PLANS[-1])
    ),
    Goal("CPU per file of 100,000 at most 1.2 × that of 10,000", _growth, most=1.2),
)
ROWS = (
    Row(
        "prefetch-again",
        "prefetch",
        "find 10,000 files up to date, distant server",
        measure.COLUMNS,
        _again,
        needs_wan=True,
        goals=_GOALS_AGAIN,
    ),
    Row(
        "prefetch-plan",
        "prefetch",
        "plan a copy, near server",
        measure.COLUMNS,
        _plans,
        goals=_GOALS_PLAN,
    ),
)
