"""`ego4dfs unmount`: take a mounted directory away."""

from __future__ import annotations

import argparse

from ego4dfs.cli.args import Parser, path_of
from ego4dfs.cli.output import ExitCode
from ego4dfs.mount import resolve_path, unmount


def add_arguments(parser: Parser) -> None:
    """Add the flags of `unmount`."""
    parser.add_argument("mountpoint", metavar="MOUNTPOINT", help="where Ego4D is mounted")
    parser.add_argument(
        "--lazy", action="store_true", help="hide it now, and end it when nobody uses it any more"
    )


def run(args: argparse.Namespace) -> int:
    """Unmount, and return when the mount's process has ended."""
    mountpoint = resolve_path(path_of(args.mountpoint, "MOUNTPOINT"))
    unmount(mountpoint, lazy=getattr(args, "lazy", False))
    return ExitCode.OK
