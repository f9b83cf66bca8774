"""Explore schedules of the product's threads: scripts/schedules [N] [--only NAME] [--bugs]."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections import Counter

from schedules import block_cache, downloads, facts_index, window
from schedules.bugs import BUGS
from schedules.explore import Body, explore
from schedules.instrument import load

OBJECTS = {
    "downloads": downloads.SCENARIOS,
    "window": window.SCENARIOS,
    "block_cache": block_cache.SCENARIOS,
    "facts_index": facts_index.SCENARIOS,
}
SCENARIOS: dict[str, Body] = {
    f"{name}.{scenario.__name__}": scenario
    for name, scenarios in OBJECTS.items()
    for scenario in scenarios
}


def explore_all(only: str, schedules: int, seed: int) -> bool:
    """Explore each scenario whose name contains `only`; return whether all passed."""
    product = load()
    total: Counter[str] = Counter()
    began_s = time.perf_counter()
    has_passed = True
    for name, body in SCENARIOS.items():
        if only in name:
            outcome = explore(name, body, product, schedules=schedules, seed=seed)
            print(outcome, flush=True)
            if outcome.failure is not None:
                print(outcome.report, flush=True)
                has_passed = False
            total[name.partition(".")[0]] += outcome.schedules
    print(*(f"{count} schedules of {name}" for name, count in total.items()), sep=", ", end="")
    print(f" in {time.perf_counter() - began_s:.0f} s, from seed {seed} on")
    return has_passed


def find_bugs(only: str, schedules: int, seed: int) -> bool:
    """Explore one scenario with each seeded bug; return whether all bugs were found."""
    missed = 0
    for bug in BUGS:
        if only in bug.scenario:
            product = load([bug.change])
            body = SCENARIOS[bug.scenario]
            outcome = explore(bug.scenario, body, product, schedules=schedules, seed=seed)
            missed += outcome.failure is None
            found = f"after {outcome.schedules}" if outcome.failure else "NOT FOUND by any"
            print(f"{bug.scenario}: {bug.name}: {found} schedules: {outcome.failure}", flush=True)
    return not missed


def main() -> int:
    """Run as a command; exit with 1 when a schedule fails, or a seeded bug is not found."""
    parser = argparse.ArgumentParser(prog="scripts/schedules", description=__doc__)
    parser.add_argument("schedules", type=int, nargs="?", default=10_000, metavar="N")
    parser.add_argument("--seed", type=int, default=0, help="of the first schedule; default: 0")
    parser.add_argument(
        "--only", default="", metavar="NAME", help="scenarios with this in the name"
    )
    parser.add_argument("--bugs", action="store_true", help="find the seeded bugs instead")
    given = parser.parse_args()
    try:
        run = find_bugs if given.bugs else explore_all
        return 0 if run(given.only, given.schedules, given.seed) else 1
    finally:
        block_cache.remove_directory()


if __name__ == "__main__":
    if os.environ.get("PYTHONHASHSEED") != "0":  # the order of a set is a part of the schedule
        os.environ["PYTHONHASHSEED"] = "0"
        os.execv(sys.executable, [sys.executable, "-m", "schedules", *sys.argv[1:]])  # noqa: S606
    sys.exit(main())
