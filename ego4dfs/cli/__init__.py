"""The `ego4dfs` command: finds the command, runs it, and ends with a code that means something.

A command is a module of this package with the command's name. It is imported only when asked
for, so that `ego4dfs --help` costs no pandas and no S3 library. It has

    add_arguments(parser)    its flags; `args` has those that commands share
    run(args) -> int         its work; the exit code of `output.ExitCode`
"""

from __future__ import annotations

import argparse
import difflib
import importlib
import sys
from collections.abc import Mapping, Sequence
from typing import Protocol, cast

from ego4dfs import __version__
from ego4dfs.cli import args, output, streams
from ego4dfs.errors import ConfigError

COMMANDS: Mapping[str, str] = {
    "mount": "show Ego4D as a directory that fetches what is read",
    "unmount": "take a mounted directory away",
    "prefetch": "copy what is selected to disk, as the official ego4d command does",
    "verify": "compare copies on disk with what they should be, and mend them",
    "ls": "list the same tree without mounting it",
    "cache": "show, verify, clear or unpin the cache of fetched blocks",
    "status": "say what mounts serve, fetch and refuse",
    "doctor": "check FUSE, cache, network, key and datasets, and say what to do",
    "demo": "mount a small sample on a local S3 server, without a licence",
}

_WORKERS = frozenset(("mount", "unmount", "prefetch", "demo"))
"""Commands whose work is not their output, as that of `verify --repair` and `--prune` is not: it
goes on when nothing can be printed."""

_HELP = """\
usage: ego4dfs COMMAND [OPTIONS]

Ego4D as a directory: everything that a finished download would hold is there within a second,
and only the bytes that are read are fetched, once, into a bounded cache on the local disk.

commands:
{commands}

examples:
  ego4dfs mount ~/ego4d --datasets full_scale annotations
  ffmpeg -ss 600 -i ~/ego4d/v2/full_scale/VIDEO_UID.mp4 -t 2 window.mp4    # fetches some MiB
  ego4dfs demo

{exit_codes}

`ego4dfs COMMAND --help` explains a command, `ego4dfs --version` shows the version of ego4dfs;
behind a command, --version is the version of Ego4D. The flags of the official ego4d command work
as they are. Documentation is in docs/ of the source.
"""


class Command(Protocol):
    """What the module of a command offers."""

    def add_arguments(self, parser: args.Parser) -> None:
        """Add the command's flags."""

    def run(self, args: argparse.Namespace) -> int:
        """Do the work and return the exit code."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line, by default that of the process, and return the exit code."""
    words = sys.argv[1:] if argv is None else list(argv)
    return output.guard(lambda: _dispatch(words))


def help_text() -> str:
    """Return what `ego4dfs --help` prints."""
    commands = "\n".join(f"  {name:<9}{text}" for name, text in COMMANDS.items())
    return _HELP.format(commands=commands, exit_codes=output.exit_codes())


def parser_of(name: str) -> args.Parser:
    """Return the parser of one command; imports its module."""
    line = COMMANDS[name]
    parser = args.Parser(
        prog=f"ego4dfs {name}",
        description=f"{line[0].upper()}{line[1:]}.",
        epilog=output.exit_codes(),
    )
    _load(name).add_arguments(parser)
    return parser


def _dispatch(words: list[str]) -> int:
    name, *rest = words or [""]
    if name == "help" and rest:
        name, rest = rest[0], ["--help"]
    if name in {"", "-h", "--help", "help"}:
        (sys.stdout if name else sys.stderr).write(help_text())
        return output.ExitCode.OK if name else output.ExitCode.USAGE
    if name in {"-V", "--version"}:
        output.say(f"ego4dfs {__version__}")
        return output.ExitCode.OK
    _check_name(name)
    given = parser_of(name).parse(rest)
    if getattr(given, "list_datasets", False):
        args.list_datasets(sys.stdout)
        return output.ExitCode.OK
    is_work = name in _WORKERS or any(getattr(given, flag, False) for flag in ("repair", "prune"))
    if is_work and not getattr(given, "dry_run", False):
        streams.is_courtesy()
    return _load(name).run(given)


def _check_name(name: str) -> None:
    if name in COMMANDS:
        return
    if name.startswith("-"):
        hint = f"put the command first, as in: ego4dfs mount {name} …"
        raise ConfigError(f"no command before {name}", hint=hint)
    close = difflib.get_close_matches(name.lower(), COMMANDS, n=1)
    hint = f"did you mean {close[0]}?" if close else f"commands: {', '.join(COMMANDS)}"
    raise ConfigError(f"there is no command {name}", hint=hint)


def _load(name: str) -> Command:
    return cast("Command", importlib.import_module(f"ego4dfs.cli.{name}"))
