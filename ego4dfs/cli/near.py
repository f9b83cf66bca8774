"""`ego4dfs near`: show, verify or clear a near tier."""

from __future__ import annotations

import argparse
import sys
import time
from datetime import datetime, timezone

from ego4dfs.cli.options import add_json, add_near, add_store, config_from
from ego4dfs.cli.output import ExitCode, print_json, say, table
from ego4dfs.cli.parser import Parser, check_action
from ego4dfs.config import Config, values
from ego4dfs.errors import ConfigError
from ego4dfs.metrics import Metrics
from ego4dfs.near.admin import KINDS, NearAdmin
from ego4dfs.session import open_near_tier
from ego4dfs.text import human_size

_ACTIONS = ("info", "verify", "clear")
_LINE_EVERY_S = 5.0


def add_arguments(parser: Parser) -> None:
    """Add the options of `near`."""
    parser.add_argument(
        "action",
        nargs="?",
        metavar="|".join(_ACTIONS),
        help="info: count the objects of the near tier; verify: compare all of them with their"
        " checksums, and remove damaged ones; clear: remove all of them",
    )
    parser.add_argument(
        "--older-than",
        metavar="TIME",
        help="with clear: only what was written longer ago than this, e.g. 12h or 30d",
    )
    add_json(parser)
    add_near(parser)
    add_store(parser)


def run(args: argparse.Namespace) -> int:
    """Run one of the actions."""
    check_action("near", args.action, _ACTIONS)
    older_than_s = 0.0
    if args.older_than is not None:
        if args.action != "clear":
            raise ConfigError("--older-than: only with clear")
        older_than_s = values.duration(values.Given(args.older_than, "--older-than"))
    config = config_from(args)
    admin = _admin(config)
    if args.action == "info":
        return _info(config, admin, as_json=args.json)
    if args.action == "verify":
        return _verify(admin, as_json=args.json)
    return _clear(admin, older_than_s, as_json=args.json)


def _admin(config: Config) -> NearAdmin:
    if not config.near:
        hint = "name its bucket with --near s3://bucket/prefix"
        raise ConfigError("no near tier was given", hint=hint)
    return NearAdmin(open_near_tier(config, Metrics()).bucket)


def _info(config: Config, admin: NearAdmin, *, as_json: bool) -> int:
    found = admin.content(_Lines("counted"))
    oldest = found.oldest_s and datetime.fromtimestamp(int(found.oldest_s), timezone.utc)
    if as_json:
        kinds = {k: {"objects": found.objects[k], "bytes": found.bytes[k]} for k in KINDS}
        print_json({"url": config.near, **kinds, "oldest": oldest and oldest.isoformat()})
        return ExitCode.OK
    rows = [(kind, str(found.objects[kind]), human_size(found.bytes[kind])) for kind in KINDS]
    table(rows, (config.near, "objects", "size"), right=("objects", "size"))
    if oldest:
        say(f"The oldest was written at {oldest.isoformat()}.")
    return ExitCode.OK


def _verify(admin: NearAdmin, *, as_json: bool) -> int:
    sound, damaged = admin.verify(_Lines("compared"))
    if as_json:
        print_json({"sound": sound, "damaged": damaged})
    else:
        rows = [
            ("sound", sound, ""),
            ("damaged", damaged, "removed; fetched from S3 when they are read"),
        ]
        table(rows, ("objects", "count", ""), right=("count",))
    return ExitCode.FAILURE if damaged else ExitCode.OK


def _clear(admin: NearAdmin, older_than_s: float, *, as_json: bool) -> int:
    count = admin.clear(older_than_s, _Lines("removed"))
    print_json({"objects": count}) if as_json else say(f"{count} objects removed")
    return ExitCode.OK


class _Lines:
    """A line on stderr every few seconds."""

    def __init__(self, done: str) -> None:
        self._done = done
        self._next_s = time.monotonic() + _LINE_EVERY_S

    def __call__(self, count: int) -> None:
        if time.monotonic() >= self._next_s:
            self._next_s = time.monotonic() + _LINE_EVERY_S
            say(f"{self._done} {count} objects", file=sys.stderr)
