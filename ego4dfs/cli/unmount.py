"""`ego4dfs unmount`: unmount a directory and wait for its process to exit."""

from __future__ import annotations

import argparse

from ego4dfs.cli.options import path_of
from ego4dfs.cli.output import ExitCode
from ego4dfs.cli.parser import Parser
from ego4dfs.cli.streams import output_is_optional
from ego4dfs.files.mountinfo import resolve_path
from ego4dfs.mount import unmount


def add_arguments(parser: Parser) -> None:
    """Add the options of `unmount`."""
    parser.add_argument("mountpoint", metavar="MOUNTPOINT", help="directory where Ego4D is mounted")
    parser.add_argument(
        "--lazy",
        action="store_true",
        help="detach it now, and end the process when no program uses it any more",
    )


def run(args: argparse.Namespace) -> int:
    """Unmount, and return when the process of the mount has exited."""
    output_is_optional()
    mountpoint = resolve_path(path_of(args.mountpoint, "MOUNTPOINT"))
    unmount(mountpoint, lazy=args.lazy)
    return ExitCode.OK
