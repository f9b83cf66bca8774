"""`ego4dfs top`: what every mount of this machine does now, as a table that is kept current."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ego4dfs.cli.keys import single_keys
from ego4dfs.cli.mounts import all_mountpoints, check_mounted, document
from ego4dfs.cli.options import path_of
from ego4dfs.cli.output import ExitCode, rich_table, say, table
from ego4dfs.cli.parser import Parser
from ego4dfs.cli.signals import terminated_as_interrupted
from ego4dfs.cli.top_activity import (
    FILES_HEADER,
    FILES_RIGHT,
    REQUESTS_HEADER,
    REQUESTS_OPTIONAL,
    REQUESTS_RIGHT,
    file_rows,
    fitted,
    request_rows,
)
from ego4dfs.cli.top_table import HEADER, OPTIONAL, RIGHT, Statuses, error_lines, rows
from ego4dfs.config.values import Given, duration
from ego4dfs.files.mountinfo import resolve_path
from ego4dfs.mount import read_statuses
from ego4dfs.text import counted, printable

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

_ANSWER_S = 0.5
"""How long one refresh waits for a mount: normally it answers within milliseconds."""
_MIN_PAUSE_S = 0.05
_INTERVALS_S = (0.1, 3600.0)

_Words = Sequence[str]
_Rows = tuple[Sequence[_Words], _Words, _Words, _Words]


def add_arguments(parser: Parser) -> None:
    """Add the options of `top`."""
    parser.add_argument(
        "mountpoints", nargs="*", metavar="MOUNTPOINT", help="these mounts (default: all of them)"
    )
    parser.add_argument(
        "--interval", metavar="TIME", default="1s", help="time between two tables (default: 1s)"
    )
    parser.add_argument(
        "--once",
        action="store_true",
        help="print one table, of one interval, and end; so it does if stdout is no terminal",
    )


def run(args: argparse.Namespace) -> int:
    """Show the table until `q` or Ctrl-C, or once. Once, the exit code is that of `status`."""
    interval_s = _interval_s(args.interval)
    named = [resolve_path(path_of(word, "MOUNTPOINT")) for word in args.mountpoints]
    for mountpoint in named:
        check_mounted(mountpoint)
    if args.once or not sys.stdout.isatty():
        return _print_once(named, interval_s)
    try:
        with terminated_as_interrupted():
            _watch(named, interval_s)
    except KeyboardInterrupt:
        pass
    return ExitCode.OK


def _interval_s(text: str) -> float:
    given = Given(text, "--interval")
    interval_s = duration(given)
    least, most = _INTERVALS_S
    if not least <= interval_s <= most:
        raise given.invalid("a time between 0.1s and 1h")
    return interval_s


def _print_once(named: list[Path], interval_s: float) -> int:
    before = read_mounts(named)
    if before:
        time.sleep(interval_s)
    now = read_mounts(named)
    if not now:
        say("no ego4dfs is mounted")
        return ExitCode.OK
    for number, (lines, header, right, _) in enumerate(tables(before, now)):
        if number:
            say("")
        table(lines, header, right=right)
    say(*error_lines(now))
    failed = any(status.get("dead") or status.get("silent") for status in now.values())
    return ExitCode.FAILURE if failed else ExitCode.OK


def _watch(named: list[Path], interval_s: float) -> None:
    """Draw the table until `q` is pressed."""
    # Imported late: it takes longer than most commands run.
    from rich.console import Console, Group  # noqa: PLC0415
    from rich.live import Live  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    before: Statuses = {}
    screen = Live(console=Console(file=sys.stdout), screen=True, auto_refresh=False)
    with single_keys() as keys, screen:
        while True:
            next_s = time.monotonic() + interval_s
            now = read_mounts(named)
            title = f"{counted(len(now), 'mount')} of ego4dfs, every {interval_s:g} s; q ends\n"
            drawn: list[Table | Text] = [Text(title)]
            for lines, header, right, optional in tables(before, now):
                shown = fitted(lines, header, screen.console.width, optional)
                drawn += [rich_table(*shown, right), Text()]
            drawn += [Text(printable(line)) for line in error_lines(now)]
            screen.update(Group(*drawn), refresh=True)
            before = now
            while True:  # once at least: the mounts may have taken the whole interval
                left_s = next_s - time.monotonic()
                if "q" in keys(max(_MIN_PAUSE_S, left_s)).lower():
                    return
                if left_s <= _MIN_PAUSE_S:
                    break


def tables(before: Statuses, now: Statuses) -> list[_Rows]:
    """Return the rows, header, right-aligned and optional columns of each table that has rows."""
    tables = [
        (rows(before, now), HEADER, RIGHT, OPTIONAL),
        (file_rows(now), FILES_HEADER, FILES_RIGHT, ()),
        (request_rows(now), REQUESTS_HEADER, REQUESTS_RIGHT, REQUESTS_OPTIONAL),
    ]
    return [one for one in tables if one[0]]


def read_mounts(named: list[Path]) -> Statuses:
    """Return what mounts say, by default all of this machine; waits half a second at most."""
    found = read_statuses(named or all_mountpoints(), _ANSWER_S, activity=True)
    return {path: document(path, result) for path, result in found.items()}
