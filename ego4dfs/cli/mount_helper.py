"""`mount.fuse.ego4dfs`: what mount(8) runs for `mount -t fuse.ego4dfs`, fstab, systemd and autofs.

    mount.fuse.ego4dfs SOURCE MOUNTPOINT [-nsv] [-t TYPE] [-o OPTIONS]

OPTIONS are those of `ego4dfs mount` without the dashes, `env.NAME=VALUE` for its environment, and
those that concern mount(8) and systemd only, which are passed to every helper.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from ego4dfs import cli
from ego4dfs.cli import output
from ego4dfs.cli.parser import Parser
from ego4dfs.errors import ConfigError

_USAGE = 1
_FAILED = 32
"""The exit codes that mount(8) documents."""

_OPTION = re.compile(r'(?:"[^"]*"|[^,"])+')
_SECRETS = ("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
_VARIABLE = re.compile(r"env\.([A-Za-z_][A-Za-z0-9_]*)", re.ASCII)
# The files of a mount have no exec bits, no owners with rights, and access times that never change.
_OF_MOUNT = re.compile(
    r"rw|ro|defaults|_netdev|(no)?(fail|auto|user|users|owner|group)|user=.*|comment=.*|[xX]-.*"
    r"|(no)?(suid|dev|exec|atime|diratime|relatime|strictatime|lazytime|iversion|mand)|a?sync",
    re.DOTALL,
)
_REFUSED = {
    "foreground": "mount(8) waits for the end of its helper",
    "list_datasets": "it prints, and mounts nothing",
    "output_directory": "the mountpoint is the second word",
    "help": "see ego4dfs mount --help",
}
_OF_OWNERS = ("uid", "uids")  # else they would be short for --uids-from


def main(argv: Sequence[str] | None = None) -> int:
    """Mount as mount(8) asks for, by default with the process's arguments; return its exit code."""
    words = sys.argv[1:] if argv is None else list(argv)
    code = output.guard(lambda: _mount(words))
    if code == output.ExitCode.USAGE:
        return _USAGE
    return _FAILED if code else 0


def _mount(words: Sequence[str]) -> int:
    args = _parser().parse(words)
    if "/" in args.source:
        hint = "write ego4d; a mirror is an option: -o source=URL"
        raise ConfigError(f"{args.source}: there is only one source, the releases", hint=hint)
    line = ["mount", f"--output_directory={Path(args.mountpoint).absolute()}"]
    line += _flags(",".join(args.options))
    with contextlib.ExitStack() as stack:
        if not args.verbose:  # as other filesystems
            nothing = stack.enter_context(Path(os.devnull).open("w"))
            stack.enter_context(contextlib.redirect_stdout(nothing))
        return cli.main(line)


def _parser() -> Parser:
    parser = Parser(prog="mount.fuse.ego4dfs", description="Mount Ego4D; mount(8) runs it.")
    parser.add_argument("source", metavar="SOURCE", help="a word for mount(8) to show, as ego4d")
    parser.add_argument("mountpoint", metavar="MOUNTPOINT", help="an empty directory")
    parser.add_argument(
        "-o",
        dest="options",
        metavar="OPTIONS",
        action="append",
        default=[],
        help="options of ego4dfs mount without the dashes, separated by commas; a value with commas"
        " is in double quotes",
    )
    parser.add_argument("-v", dest="verbose", action="store_true", help="print what is mounted")
    parser.add_argument("-t", metavar="TYPE", help="accepted, and ignored")
    for flag in ("-n", "-s"):
        parser.add_argument(flag, action="store_true", help=argparse.SUPPRESS)
    return parser


def _flags(options: str) -> Iterator[str]:
    """Yield the options of `ego4dfs mount`; set the variables of the environment."""
    for option in _OPTION.findall(options):
        name, equals, value = option.replace('"', "").partition("=")
        variable = _VARIABLE.fullmatch(name)
        if variable is not None and variable[1] in _SECRETS:
            hint = "name the file that has it: env.AWS_SHARED_CREDENTIALS_FILE=FILE"
            raise ConfigError(f"-o {name}: all users could read it, as in ps", hint=hint)
        if variable is not None and equals:
            os.environ[variable[1]] = value
        elif reason := _refusal(name.replace("-", "_")):
            raise ConfigError(f"-o {name}: not allowed here", hint=reason)
        elif _OF_MOUNT.fullmatch(option) is None:
            yield f"--{name}{equals}{value}"


def _refusal(name: str) -> str:
    """Return why an option is not allowed, also if it is abbreviated; else an empty text."""
    if name in _OF_OWNERS:
        return "with allow_other, files can be read by all users"
    refused = (reason for full, reason in _REFUSED.items() if name and full.startswith(name))
    return next(refused, "")
