"""`ego4dfs cat`: write a file, or some bytes of it, to standard output."""

from __future__ import annotations

import argparse
import re
import sys

from ego4dfs.cli.options import add_cache, add_near, add_selection, add_store, config_from
from ego4dfs.cli.output import ExitCode
from ego4dfs.cli.parser import Parser
from ego4dfs.cli.streams import write_result_bytes
from ego4dfs.errors import ConfigError, NotFound
from ego4dfs.vfs import VFS, open_vfs
from ego4dfs.vfs.ranges import read_chunks

_RANGE = re.compile(r"(\d{0,19})-(\d{0,19})", re.ASCII)
_PROTOCOL = "ego4d://"


def add_arguments(parser: Parser) -> None:
    """Add the options of `cat`."""
    parser.add_argument(
        "path", metavar="PATH", help="file, as in a mount: v2/annotations/narration.json"
    )
    parser.add_argument(
        "--range",
        metavar="A-B",
        help="only the bytes from A to B, counted from 0, with both: 0-499 are the first 500."
        " A- are those from A on, and -N the last N",
    )
    add_selection(parser)
    add_store(parser)
    add_near(parser)
    add_cache(parser)


def run(args: argparse.Namespace) -> int:
    """Write the bytes of one file."""
    start, end = _span(args.range)
    vfs = open_vfs(config_from(args))
    try:
        _write(vfs, args.path, start, end)
    finally:
        vfs.close()
    return ExitCode.OK


def _write(vfs: VFS, given: str, start: int | None, end: int | None) -> None:
    path = given.removeprefix(_PROTOCOL).strip("/")
    is_written = False
    try:
        for chunk in read_chunks(vfs, path, start, end):
            write_result_bytes(chunk)
            is_written = True
    except (NotFound, NotADirectoryError) as error:
        hint = "paths are as in a mount: v2/full_scale/<uid>.mp4"
        text = f"{given}: no such file or directory in this selection"
        raise ConfigError(text, hint=hint) from error
    except IsADirectoryError as error:
        hint = "`ego4dfs ls` lists a directory"
        raise ConfigError(f"{given}: is a directory", hint=hint) from error
    if start is not None and start >= 0 and not is_written:
        size = vfs.open(path).size
        raise ConfigError(f"--range: begins at {start}, and {given} has {size} bytes")
    sys.stdout.flush()


def _span(text: str | None) -> tuple[int | None, int | None]:
    """Return start and end of a slice; the last byte of the text is included."""
    if text is None:
        return None, None
    found = _RANGE.fullmatch(text.strip())
    first, last = found.groups() if found else ("", "")
    is_backward = first and last and int(first) > int(last)
    is_empty = not first and not int(last or 0)
    if not found or is_backward or is_empty:
        hint = "write --range 0-499 for the first 500 bytes, 500- or -500"
        raise ConfigError(f"--range: {text!r} is not a range of bytes", hint=hint)
    if not first:
        return -int(last), None
    return int(first), int(last) + 1 if last else None
