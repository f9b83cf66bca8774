"""`ego4dfs ls`: list files, sizes and times without mounting."""

from __future__ import annotations

import argparse
import logging
from dataclasses import dataclass
from datetime import datetime, timezone

from ego4dfs.cli.options import (
    add_cache,
    add_json,
    add_near,
    add_selection,
    add_store,
    config_from,
)
from ego4dfs.cli.output import ExitCode, print_json, say, table
from ego4dfs.cli.parser import Parser
from ego4dfs.errors import ConfigError, NotFound, StoreError
from ego4dfs.text import human_size
from ego4dfs.vfs import VFS, open_vfs
from ego4dfs.vfs.tree import Directory, join

log = logging.getLogger(__name__)


def add_arguments(parser: Parser) -> None:
    """Add the options of `ls`."""
    parser.add_argument(
        "path",
        nargs="?",
        metavar="PATH",
        default="",
        help="directory or file, as in a mount: v2/full_scale",
    )
    parser.add_argument(
        "-l",
        "--long",
        action="store_true",
        help="show sizes, in units such as MiB and GiB, and modification times; -lh is the same",
    )
    parser.add_argument("-lh", "-hl", dest="long", action="store_true", help=argparse.SUPPRESS)
    add_json(parser)
    add_selection(parser)
    add_store(parser)
    add_near(parser)
    add_cache(parser)


def run(args: argparse.Namespace) -> int:
    """List one directory, or show one file."""
    vfs = open_vfs(config_from(args))
    given = args.path
    path = given.strip("/")
    try:
        names = _names(vfs, path, given)
        if args.long:
            return _print_long(vfs, path, names, as_json=args.json)
        if args.json:
            print_json(names)
        else:
            say(*names)
    finally:
        vfs.close()
    return ExitCode.OK


def _names(vfs: VFS, path: str, given: str) -> list[str]:
    try:
        if not isinstance(vfs.resolve(path), Directory):
            return [path.rpartition("/")[2]]
        return sorted(f"{e.name}/" if e.is_dir else e.name for e in vfs.listdir(path))
    except (NotFound, NotADirectoryError) as error:
        hint = "paths are as in a mount: v2/full_scale/<uid>.mp4"
        raise ConfigError(
            f"{given}: no such file or directory in this selection", hint=hint
        ) from error


@dataclass(frozen=True, slots=True)
class _Row:
    """One line of a long listing; if `size` is None, `shown` says why it is unknown."""

    name: str
    is_dir: bool
    size: int | None
    shown: str
    modified: datetime | None


def _print_long(vfs: VFS, path: str, names: list[str], *, as_json: bool) -> ExitCode:
    directory = isinstance(vfs.resolve(path), Directory)
    parent = path if directory else path.rpartition("/")[0]
    rows = [_row(vfs, parent, name) for name in names]
    if as_json:
        print_json([_document(row) for row in rows])
    else:
        table(
            [(row.shown, _shown_time(row), row.name) for row in rows],
            ("size", "modified (UTC)", "name"),
            right=("size",),
        )
    unreachable = sum(row.modified is None for row in rows)
    if unreachable:
        log.warning("the sizes of %d of %d files could not be fetched", unreachable, len(rows))
    return ExitCode.PARTIAL if unreachable else ExitCode.OK


def _row(vfs: VFS, parent: str, name: str) -> _Row:
    try:
        found = vfs.stat(join(parent, name.rstrip("/")))
    except StoreError:
        return _Row(name, is_dir=False, size=None, shown="?", modified=None)
    modified = datetime.fromtimestamp(found.mtime_ns // 10**9, tz=timezone.utc)
    if found.is_dir:
        return _Row(name, is_dir=True, size=None, shown="-", modified=modified)
    if not found.is_known:
        return _Row(name, is_dir=False, size=None, shown="refused", modified=modified)
    shown = human_size(found.size)
    return _Row(name, is_dir=False, size=found.size, shown=shown, modified=modified)


def _shown_time(row: _Row) -> str:
    return f"{row.modified:%Y-%m-%d %H:%M}" if row.modified else "?"


def _document(row: _Row) -> dict[str, object]:
    return {
        "name": row.name.rstrip("/"),
        "type": "directory" if row.is_dir else "file",
        "size": row.size,
        "modified": row.modified.isoformat() if row.modified else None,
    }
