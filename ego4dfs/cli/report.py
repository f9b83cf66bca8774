"""`ego4dfs report`: what mounts have recorded, as tables and plots, with advice."""

from __future__ import annotations

import argparse
import textwrap
import time
from collections.abc import Iterator
from datetime import datetime, timezone
from typing import Any

from ego4dfs.cache import prepare_directory
from ego4dfs.cli.options import add_json, config_from, path_of
from ego4dfs.cli.output import ExitCode, print_json, say, table
from ego4dfs.cli.parser import Parser
from ego4dfs.config.values import Given, duration
from ego4dfs.files.mountinfo import resolve_path
from ego4dfs.report import Step, Summary, advice, read_records, summarize
from ego4dfs.report.summary import merged
from ego4dfs.text import human_size

_STEPS = 12
_COLUMNS = 100
_PATTERNS = ("DATASET", "ACCESS", "OPENS", "READ", "PER OPEN")
_OVER_TIME = ("UNTIL, UTC", "READ", "FETCHED", "HITS", "REQUESTS", "ERRORS")
_NONE = "-"


def add_arguments(parser: Parser) -> None:
    """Add the options of `report`."""
    parser.add_argument(
        "mountpoint",
        nargs="?",
        metavar="MOUNTPOINT",
        help="this mount, which need not be mounted now (default: all mounts that used the cache)",
    )
    parser.add_argument(
        "--cache-dir",
        metavar="DIR",
        help="directory of the cache that the mounts used (default: ~/.cache/ego4dfs)",
    )
    parser.add_argument(
        "--since",
        metavar="TIME",
        default="7d",
        help="report what happened in this time before now, such as 2h or 7d (default: 7d)",
    )
    parser.add_argument(
        "--plots",
        metavar="DIR",
        help="also write over-time.png and patterns.png to DIR (needs matplotlib)",
    )
    add_json(parser, "print the report as JSON")


def run(args: argparse.Namespace) -> int:
    """Print the report, and draw its plots if they were asked for."""
    config = config_from(args)
    since_s = time.time() - duration(Given(args.since, "--since"))
    mountpoint = args.mountpoint
    if mountpoint is not None:
        mountpoint = str(resolve_path(path_of(mountpoint, "MOUNTPOINT")))
    directory = prepare_directory(config.cache_dir)
    found = summarize(read_records(directory), mountpoint=mountpoint, since_s=since_s)
    if args.json:
        print_json(_document(found))
    elif not found.steps:
        say(f"nothing was recorded in {directory} in this time; mounts record each minute")
    else:
        _print(found)
    if args.plots is not None and found.steps:
        from ego4dfs.report.plots import draw  # noqa: PLC0415 - matplotlib takes a second

        paths = draw(found, path_of(args.plots, "--plots"))
        if not args.json:
            say("", *(f"plot: {path}" for path in paths))
    return ExitCode.OK


def _print(found: Summary) -> None:
    table(list(_totals(found)), (", ".join(found.mountpoints), ""))
    if found.opens:
        say("")
        table(list(_patterns(found)), _PATTERNS, right=_PATTERNS[2:])
    say("")
    table([_step(step) for step in merged(found.steps, _STEPS)], _OVER_TIME, right=_OVER_TIME[1:])
    for sentence in advice(found):
        say("", *textwrap.wrap(f"Advice: {sentence}", _COLUMNS, break_on_hyphens=False))


def _totals(found: Summary) -> Iterator[tuple[str, str]]:
    counters = found.counters
    yield "time", f"{_time(found.steps[0].time_s)} to {_time(found.steps[-1].time_s)}, UTC"
    copies = counters["bytes_from_copies"]
    more = f", {human_size(copies)} of it from copies" if copies else ""
    yield "read", f"{human_size(counters['bytes_served'])}{more}"
    yield "fetched", human_size(counters["bytes_fetched"])
    amplification = found.amplification
    yield "fetched ÷ read", _NONE if amplification is None else f"{amplification:.2f}"
    yield "hits", _percent(found.hit_rate)
    results = ", ".join(f"{count} {name}" for name, count in found.results.most_common() if count)
    yield "requests", f"{counters['requests']}{f' ({results})' if results else ''}"
    yield "evicted", f"{counters['evictions']} blocks; limit {human_size(found.cache_limit_bytes)}"
    yield "errors", f"{counters['read_errors']} seen by programs, {counters['errors']} in all"


def _patterns(found: Summary) -> Iterator[tuple[str, ...]]:
    for (dataset, pattern), size in sorted(found.bytes.items(), key=lambda item: -item[1]):
        opens = found.opens[dataset, pattern]
        if opens or size:
            each = human_size(size // opens) if opens else _NONE
            yield dataset, pattern, f"{opens}", human_size(size), each


def _step(step: Step) -> tuple[str, ...]:
    counters = step.counters
    return (
        _time(step.time_s),
        human_size(counters["bytes_served"]),
        human_size(counters["bytes_fetched"]),
        _percent(step.hit_rate),
        f"{counters['requests']}",
        f"{counters['errors']}",
    )


def _document(found: Summary) -> dict[str, Any]:
    return {
        "mountpoints": found.mountpoints,
        "counters": dict(found.counters),
        "results": dict(found.results),
        "amplification": found.amplification,
        "hit_rate": found.hit_rate,
        "patterns": [
            {
                "dataset": dataset,
                "access": name,
                "opens": opens,
                "bytes": found.bytes[dataset, name],
            }
            for (dataset, name), opens in found.opens.items()
        ],
        "steps": [
            {
                "time": step.time_s,
                "hit_rate": step.hit_rate,
                "cache_bytes": step.cache_bytes,
                "cache_limit_bytes": step.cache_limit_bytes,
                **step.counters,
            }
            for step in found.steps
        ],
        "advice": advice(found),
    }


def _time(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, timezone.utc):%Y-%m-%d %H:%M}"


def _percent(share: float | None) -> str:
    return _NONE if share is None else f"{100 * share:.0f} %"
