"""The command line of `scripts/bench`."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks import BenchError, report
from benchmarks.plot import draw
from benchmarks.report import machine, replace
from benchmarks.row import Outcome, Row, run_row, say
from benchmarks.rows import ROWS
from benchmarks.servers import RAM_DISK, serving

_ABOUT = """\
Measure ego4dfs and other tools at the same work, one after the other in the same run, against an S3
server on this machine: near (lan), or over TLS with 30 ms to the first byte and 80 MB/s a
connection (wan). Every run starts cold, and its bytes are checked. The table goes to stdout,
progress to stderr."""
_MORE = """\
examples:
  scripts/bench --list
  scripts/bench prefetch --write docs/performance.md
  scripts/bench prefetch-small-wan --rounds 1 --json small.json

exit codes:
  0  all that is installed was measured
  1  a tool failed or returned wrong bytes; the table says which
  2  wrong flag, or the benchmark could not run at all"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    options = _parser().parse_args(arguments)
    try:
        rows = choose([*options.names, *options.only])
        if options.list:
            print("\n".join(f"{row.group:10} {row.name:20} {row.title}" for row in rows))
            return 0
        if options.write:
            replace(options.write, {row.group: "" for row in _whole_groups(rows)}, dry=True)
        return _measure(options, rows)
    except BenchError as error:
        say(str(error))
        return 2
    except KeyboardInterrupt:
        say("stopped")
        return 130


def choose(names: Sequence[str]) -> list[Row]:
    """Return the rows of these names; a name also means all rows that begin with it and a dash."""
    for name in names:
        if not any(_means(name, row) for row in ROWS):
            raise BenchError(f"there is no group or row {name}; see --list")
    return [row for row in ROWS if not names or any(_means(name, row) for name in names)]


def _means(name: str, row: Row) -> bool:
    return name == row.group or f"{row.name}-".startswith(f"{name}-")


def _whole_groups(rows: Sequence[Row]) -> Sequence[Row]:
    groups = {row.group for row in rows}
    missing = [row.name for row in ROWS if row.group in groups and row not in rows]
    if missing:
        raise BenchError(f"--write needs whole groups; this run leaves out {', '.join(missing)}")
    return rows


def _measure(options: argparse.Namespace, rows: Sequence[Row]) -> int:
    outcomes: list[Outcome] = []
    with serving(options.place) as servers:
        about = machine(servers.wan_missing, _command(options), options.rounds)
        found = report.as_json(outcomes, about)
        for row in rows:
            outcomes.append(run_row(row, servers, options.rounds))
            print(report.markdown(outcomes[-1:]) + "\n" + report.goals(outcomes[-1:]), flush=True)
            found = report.as_json(outcomes, about)
            if options.json:  # after each row, because a later one may fail
                options.json.write_text(json.dumps(found, indent=1) + "\n")
    if options.plot:
        draw(found, options.plot)
    failed = [f"{o.row.name} {result.name}" for o in outcomes for result in o.failed]
    if failed:
        unwritten = f"; {options.write} is not changed" if options.write else ""
        say(f"failed: {', '.join(failed)}{unwritten}")
        return 1
    if options.write:
        groups = dict.fromkeys(row.group for row in rows)
        replace(options.write, {name: _section(name, outcomes, about) for name in groups})
    return 0


def _section(group: str, outcomes: Sequence[Outcome], about: dict[str, str]) -> str:
    mine = [outcome for outcome in outcomes if outcome.row.group == group]
    lines = "\n".join(f"- {name}: {value}" for name, value in about.items())
    goals = report.goals(mine)
    return f"{lines}\n\n{report.markdown(mine)}" + (f"\nGoals:\n\n{goals}" if goals else "")


def _command(options: argparse.Namespace) -> str:
    """Return the command line that repeats this measurement."""
    words = ["scripts/bench", *options.names, *options.only]
    return shlex.join([*words, "--rounds", str(options.rounds)])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="scripts/bench",
        description=_ABOUT,
        epilog=_MORE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("names", nargs="*", metavar="GROUP|ROW", help="what to run (default: all)")
    parser.add_argument(
        "--only", action="append", default=[], metavar="ROW", help="the same, as a flag"
    )
    parser.add_argument("--rounds", type=_positive, default=5, metavar="N", help="default: 5")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every sample")
    parser.add_argument("--plot", type=Path, metavar="FILE.png", help="draw the headlines as bars")
    parser.add_argument("--list", action="store_true", help="list the rows, and run nothing")
    parser.add_argument(
        "--write",
        type=Path,
        metavar="FILE.md",
        help="replace the tables of the groups in this file, if no tool failed",
    )
    parser.add_argument(
        "--place",
        type=Path,
        default=RAM_DISK,
        metavar="DIR",
        help=f"directory for server and copies during the run, best a tmpfs (default: {RAM_DISK})",
    )
    return parser


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("at least 1")
    return number


if __name__ == "__main__":
    sys.exit(main())
