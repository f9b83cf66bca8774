"""Rounds: in each one every contender runs once, each time in another order."""

from __future__ import annotations

import sys
import time

from benchmarks.row import Contender, Outcome, Result, Row
from benchmarks.servers import Servers
from benchmarks.trouble import RunError
from ego4dfs.errors import Ego4DError


def say(text: str) -> None:
    """Tell how far things are, on stderr."""
    print(f"bench: {text}", file=sys.stderr, flush=True)


def run_row(row: Row, servers: Servers, rounds: int) -> Outcome:
    """Run a row; what a contender cannot do is noted in its result and does not stop the others."""
    if row.needs_wan and servers.wan_missing:
        say(f"{row.name}: left out, {servers.wan_missing}")
        return Outcome(row, [Result("all", trouble=f"missing: {servers.wan_missing}")])
    say(f"{row.name}: preparing ({row.title})")
    try:
        return _run_rounds(row, servers, rounds)
    except (RunError, Ego4DError, OSError) as error:
        say(f"{row.name}: could not be prepared: {error}")
        return Outcome(row, [Result("all", trouble=f"failed: {error}")])


def _run_rounds(row: Row, servers: Servers, rounds: int) -> Outcome:
    with row.prepare(servers) as contenders:
        results = {c.name: Result(c.name, trouble=c.missing) for c in contenders}
        for number in range(rounds):
            turn = number % len(contenders)
            for contender in [*contenders[turn:], *contenders[:turn]]:
                result = results[contender.name]
                if not result.trouble and number < (contender.most_rounds or rounds):
                    _run_once(row, contender, result, f"{number + 1}/{rounds}")
    return Outcome(row, list(results.values()))


def _run_once(row: Row, contender: Contender, result: Result, which: str) -> None:
    begin = time.monotonic()
    try:
        sample = contender.run()
    except Exception as error:  # noqa: BLE001 - whatever ails one tool must not end the others' run
        words = str(error) if isinstance(error, RunError) else f"{type(error).__name__}: {error}"
        result.trouble = f"failed: {words}"
        say(f"{row.name} {which} {contender.name}: {result.trouble}")
        return
    result.samples.append(sample)
    headline = row.columns[0]
    told = f"{headline.title} {sample[headline.key]:.{headline.digits}f}"
    say(f"{row.name} {which} {contender.name}: {told} ({time.monotonic() - begin:.1f} s in all)")
