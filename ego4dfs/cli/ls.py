"""`ego4dfs ls`: the tree without a mount."""

from __future__ import annotations

import argparse
from datetime import datetime, timezone

from ego4dfs.cli.args import Parser, add_cache, add_selection, add_store, config_from
from ego4dfs.cli.output import ExitCode, human_size, print_json, table
from ego4dfs.errors import ConfigError, NotFound
from ego4dfs.tree import join
from ego4dfs.vfs import VFS, open_vfs


def add_arguments(parser: Parser) -> None:
    """Add the flags of `ls`."""
    parser.add_argument(
        "path", nargs="?", metavar="PATH", help="directory or file, as in a mount: v2/full_scale"
    )
    parser.add_argument("-l", "--long", action="store_true", help="show sizes and times too")
    parser.add_argument("--json", action="store_true", help="print as JSON")
    add_selection(parser)
    add_store(parser)
    add_cache(parser)


def run(args: argparse.Namespace) -> int:
    """List one directory, or show one file."""
    vfs = open_vfs(config_from(args))
    path = getattr(args, "path", "").strip("/")
    try:
        names = _names(vfs, path)
        if getattr(args, "long", False):
            _print_long(vfs, path, names, as_json=getattr(args, "json", False))
        elif getattr(args, "json", False):
            print_json(names)
        else:
            print("\n".join(names)) if names else None
    finally:
        vfs.close()
    return ExitCode.OK


def _names(vfs: VFS, path: str) -> list[str]:
    try:
        if not vfs.stat(path).is_dir:
            return [path.rpartition("/")[2]]
        return sorted(f"{e.name}/" if e.is_dir else e.name for e in vfs.listdir(path))
    except (NotFound, NotADirectoryError) as error:
        hint = "paths are as in a mount: v2/full_scale/<uid>.mp4"
        raise ConfigError(
            f"{path}: no such file or directory in this selection", hint=hint
        ) from error


def _print_long(vfs: VFS, path: str, names: list[str], *, as_json: bool) -> None:
    rows = []
    parent = path if vfs.stat(path).is_dir else path.rpartition("/")[0]
    for name in names:
        found = vfs.stat(join(parent, name.rstrip("/")))
        time = datetime.fromtimestamp(found.mtime_ns // 10**9, tz=timezone.utc)
        rows.append((name, found, time))
    if as_json:
        print_json(
            [
                {
                    "name": name.rstrip("/"),
                    "type": "directory" if found.is_dir else "file",
                    "size": found.size if found.is_known and not found.is_dir else None,
                    "modified": time.isoformat(),
                }
                for name, found, time in rows
            ]
        )
        return
    table(
        [
            (_shown_size(found.is_dir, found.is_known, found.size), f"{time:%Y-%m-%d %H:%M}", name)
            for name, found, time in rows
        ],
        ("size", "modified (UTC)", "name"),
        right=("size",),
    )


def _shown_size(is_dir: bool, is_known: bool, size: int) -> str:  # noqa: FBT001 - fields of a Stat
    if is_dir:
        return "-"
    return human_size(size) if is_known else "refused"
