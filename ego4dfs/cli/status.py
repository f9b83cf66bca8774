"""`ego4dfs status`: the live counters of one mount or of all mounts."""

from __future__ import annotations

import argparse
from datetime import timedelta
from pathlib import Path
from typing import Any

from ego4dfs.cli.mounts import all_mountpoints, check_mounted, document
from ego4dfs.cli.options import add_json, path_of
from ego4dfs.cli.output import ExitCode, print_json, say, table
from ego4dfs.cli.parser import Parser
from ego4dfs.cli.store_state import describe_state, state_remedy
from ego4dfs.files.mountinfo import resolve_path
from ego4dfs.metrics import NEAR_FAILING, NEAR_OFF
from ego4dfs.mount import read_status, read_statuses
from ego4dfs.text import human_size


def add_arguments(parser: Parser) -> None:
    """Add the options of `status`."""
    parser.add_argument(
        "mountpoint", nargs="?", metavar="MOUNTPOINT", help="one mount (default: all of them)"
    )
    add_json(parser, "print the counters as JSON")


def run(args: argparse.Namespace) -> int:
    """Print the counters. The exit code says whether all mounts answered."""
    as_json = args.json
    if args.mountpoint is not None:
        mountpoint = resolve_path(path_of(args.mountpoint, "MOUNTPOINT"))
        check_mounted(mountpoint)
        status = read_status(mountpoint)
        print_json(status) if as_json else _print_one(mountpoint, status)
        return ExitCode.OK
    results = read_statuses(all_mountpoints())
    found = {path: document(path, result) for path, result in results.items()}
    if as_json:
        print_json([{"mountpoint": path, **status} for path, status in found.items()])
    elif not found:
        say("no ego4dfs is mounted")
    for path, status in {} if as_json else found.items():
        _print_one(path, status)
    failed = any(status.get("dead") or status.get("silent") for status in found.values())
    return ExitCode.FAILURE if failed else ExitCode.OK


def _print_one(mountpoint: Path, status: dict[str, Any]) -> None:
    if "dead" in status:
        table([("state", status["last_error"])], (str(mountpoint), ""))
        return
    requests = status["requests"]
    reads = status["hits"] + status["misses"]
    share = f" ({100 * status['hits'] / reads:.1f} % from the cache)" if reads else ""
    cache = f"{human_size(status['cache_bytes'])} of {human_size(status['cache_limit_bytes'])}"
    if status.get("cache_state", "ok") != "ok":
        cache = f"{status['cache_state']}; last known: {cache}"
    rows = [
        ("state", describe_state(status)),
        ("process", f"{_process(status)}, up {timedelta(seconds=int(status['uptime_s']))}"),
        ("served", human_size(status["bytes_served"]) + share),
        ("fetched", human_size(status["bytes_fetched"])),
        ("from copies", human_size(status.get("bytes_from_copies", 0))),
        ("requests", ", ".join(f"{count} {kind}" for kind, count in requests.items())),
        ("cache", f"{cache}, {status['evictions']} blocks evicted"),
        ("verified", _verified(status)),
        ("errors", str(status["errors"])),
    ]
    if status.get("near", NEAR_OFF) != NEAR_OFF:
        rows.insert(4, ("near tier", _near(status)))
    if status.get("metrics_url"):
        rows.append(("metrics", status["metrics_url"]))
    if state_remedy(status):
        rows.insert(1, ("remedy", state_remedy(status)))
    if status["last_error"]:
        rows.append(("last error", status["last_error"]))
    table(rows, (str(mountpoint), ""))


def _verified(status: dict[str, Any]) -> str:
    wrong = status.get("verify_failures", 0)
    removed = f", {wrong} did not match and were removed" if wrong else ""
    return f"{status.get('verified', 0)} complete objects matched their ETags{removed}"


def _near(status: dict[str, Any]) -> str:
    read, written = human_size(status["bytes_from_near"]), human_size(status["bytes_to_near"])
    text = f"{read} read, {written} written, {status['near_failures']} failures"
    return f"{text}; not asked for a while" if status["near"] == NEAR_FAILING else text


def _process(status: dict[str, Any]) -> str:
    return "in another pid namespace" if status["pid"] is None else f"pid {status['pid']}"
