"""Simulate seeds, and print those that failed."""

from __future__ import annotations

import argparse
import sys
import time

from simulation.bugs import BUGS, planted
from simulation.faults import KINDS
from simulation.run import Summary, simulate

_SHOWN = 3  # failures of a seed: others often follow from the first


def main() -> int:
    """Run the seeds that the command line names; return 1 if one of them failed."""
    parser = argparse.ArgumentParser(prog="scripts/simulate", description=__doc__)
    parser.add_argument("seeds", type=int, metavar="SEEDS", help="how many seeds to run")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="the first (default: 0)")
    parser.add_argument("--seconds", type=float, default=1e9, help="begin no seed after this time")
    parser.add_argument("--kind", action="append", choices=KINDS, help="only this kind of fault")
    parser.add_argument("--bug", choices=BUGS, help="plant a bug first; it should be found")
    parser.add_argument("--log", action="store_true", help="print every event, and the trace")
    given = parser.parse_args()
    with planted(given.bug):
        return _simulate(given)


def _simulate(given: argparse.Namespace) -> int:
    summary, until_s = Summary(given.seed), time.monotonic() + given.seconds
    for seed in range(given.seed, given.seed + given.seeds):
        if time.monotonic() >= until_s or (summary.failed and given.bug):
            break
        result = simulate(seed, kinds=given.kind, log=given.log)
        summary.add(result)
        if given.log:
            print(*result.log or (), f"trace {result.trace}", sep="\n")
        for failure in result.failures[:_SHOWN]:
            print(f"seed {seed}: {failure[:600]}", flush=True)
    print(summary)
    return 1 if summary.failed else 0


if __name__ == "__main__":
    sys.exit(main())
