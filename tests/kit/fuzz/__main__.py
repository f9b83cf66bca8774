"""The long form of the fuzzing: `python -m kit.fuzz MINUTES [TARGET...]`, as `scripts/fuzz` does.

All targets get the same time. Each finding is printed, as a minimal example if Hypothesis made it;
its target then ends.
"""

from __future__ import annotations

import argparse
import logging
import random
import sys
import time
import traceback
from dataclasses import dataclass

from kit.fuzz.target import Target, TooSlow, run, run_drawn
from kit.fuzz.targets import TARGETS

_AT_A_TIME = 200


@dataclass
class Progress:
    """How long one target has run, how many inputs it had, and what was found."""

    target: Target
    spent_s: float = 0.0
    inputs: int = 0
    finding: str = ""

    def count(self) -> None:
        """Count one input."""
        self.inputs += 1

    def advance(self, seed: int) -> None:
        """Check some more inputs."""
        began_s = time.monotonic()
        try:
            checked = run if self.target.draw is None else run_drawn
            checked(self.target, _AT_A_TIME, seed, self.count)
        except (Exception, TooSlow) as error:  # noqa: BLE001 - a finding
            self.finding = "".join(traceback.format_exception(error)[-12:])
            print(f"=== {self.target.name}, seed {seed}:\n{self.finding}", flush=True)
        self.spent_s += time.monotonic() - began_s

    def has_ended(self, inputs: int | None) -> bool:
        """Return whether there is a finding, or there were so many inputs."""
        return bool(self.finding) or (inputs is not None and self.inputs >= inputs)


def main() -> int:
    """Run as a command; exit with 1 if there is a finding."""
    parser = argparse.ArgumentParser(prog="scripts/fuzz", description=__doc__)
    parser.add_argument("minutes", type=float, help="how long all targets run together")
    names = [target.name for target in TARGETS]
    parser.add_argument("target", nargs="*", choices=[*names, []], metavar="TARGET")
    parser.add_argument("--inputs", type=int, help="end each target after so many inputs")
    parser.add_argument("--seed", type=int, default=random.randrange(2**32), help="default: random")
    given = parser.parse_args()
    chosen = [target for target in TARGETS if not given.target or target.name in given.target]
    running = all_of = [Progress(target) for target in chosen]
    began_s, seed = time.monotonic(), given.seed
    until_s = began_s + 60 * given.minutes
    print(f"seed {seed}", flush=True)
    logging.disable(logging.CRITICAL)  # of damaged input
    while running and time.monotonic() < until_s:
        min(running, key=lambda progress: progress.spent_s).advance(seed)
        running = [progress for progress in running if not progress.has_ended(given.inputs)]
        seed += 1
    for progress in all_of:
        found = "1 finding" if progress.finding else "no finding"
        print(f"{progress.target.name:20} {progress.inputs:9,} inputs  {found}")
    minutes = (time.monotonic() - began_s) / 60
    print(f"{sum(p.inputs for p in all_of):,} inputs in {minutes:.1f} minutes")
    return 1 if any(progress.finding for progress in all_of) else 0


if __name__ == "__main__":
    sys.exit(main())
