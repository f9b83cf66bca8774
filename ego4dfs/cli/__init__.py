"""The `ego4dfs` program: the table of its commands, `main`, and dispatch to one of them.

A command is a module of this package with the command's name. It is imported only when it runs,
so that `ego4dfs --help` imports neither pandas nor an S3 library. It has

    add_arguments(parser)    adds its options; `options` has those that commands share
    run(args) -> int         does the work and returns a code of `output.ExitCode`
"""

from __future__ import annotations

import argparse
import difflib
import importlib
import sys
from collections.abc import Mapping, Sequence
from typing import Protocol, cast

from ego4dfs import __version__
from ego4dfs.cli import options, output
from ego4dfs.cli.parser import Parser
from ego4dfs.errors import ConfigError

COMMANDS: Mapping[str, str] = {
    "mount": "mount Ego4D as a directory; data is fetched when it is read",
    "unmount": "unmount a directory",
    "prefetch": "download the selected files, as the official ego4d command does",
    "verify": "check downloaded files, and repair damaged or missing ones",
    "ls": "list files and sizes without mounting",
    "cat": "write a file, or some bytes of it, to standard output",
    "serve": "serve the files over HTTP, with ranges: where there is no FUSE, and to browsers",
    "browse": "see the videos with narrations and annotations in a browser, and search them",
    "clip": "write some seconds of a video as an MP4; only their bytes are fetched",
    "cache": "show, verify, clear or unpin the cache of fetched blocks",
    "mirror": "write the selected files to a near tier, before they are read",
    "near": "show, verify or clear a near tier: a store of the lab that is read before S3",
    "index": "export sizes and manifests to a file, or import them: others need no requests",
    "status": "show live counters of mounts",
    "top": "show what all mounts do now, as a table that is kept current",
    "report": "show what mounts have recorded: access patterns, hit rate, advice; as plots too",
    "doctor": "check FUSE, cache, network, credentials and datasets, and suggest fixes",
    "demo": "mount a small sample from a local S3 server; needs no licence",
    "completion": "print a completion script for bash, zsh or fish",
}

SUMMARY = """\
Mount Ego4D as a directory. All files of a complete download are listed within a second. Only the
bytes that are read are fetched, once, into a cache of bounded size on the local disk."""

_HELP = """\
usage: ego4dfs COMMAND [OPTIONS]

{summary}

commands:
{commands}

examples:
  ego4dfs mount ~/ego4d --datasets full_scale annotations
  ffmpeg -ss 600 -i ~/ego4d/v2/full_scale/VIDEO_UID.mp4 -t 2 window.mp4    # fetches a few MiB
  ego4dfs demo

{exit_codes}

`ego4dfs COMMAND --help` describes a command. `ego4dfs --version` prints the version of ego4dfs;
after a command, --version selects the version of Ego4D. All options of the official ego4d command
are accepted.
"""


class Command(Protocol):
    """What the module of a command has."""

    def add_arguments(self, parser: Parser) -> None:
        """Add the command's options."""

    def run(self, args: argparse.Namespace) -> int:
        """Do the work and return the exit code."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line, by default that of the process, and return the exit code."""
    words = sys.argv[1:] if argv is None else list(argv)
    return output.guard(lambda: _dispatch(words))


def help_text() -> str:
    """Return what `ego4dfs --help` prints."""
    commands = "\n".join(f"  {name:<11}{text}" for name, text in COMMANDS.items())
    return _HELP.format(summary=SUMMARY, commands=commands, exit_codes=output.exit_codes())


def parser_of(name: str) -> Parser:
    """Return the parser of one command; imports its module."""
    line = COMMANDS[name]
    parser = Parser(
        prog=f"ego4dfs {name}",
        description=f"{line[0].upper()}{line[1:]}.",
        epilog=output.exit_codes(),
    )
    load(name).add_arguments(parser)
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
    if "list_datasets" in given:
        options.list_datasets(sys.stdout)
        return output.ExitCode.OK
    return load(name).run(given)


def _check_name(name: str) -> None:
    if name in COMMANDS:
        return
    if name.startswith("-"):
        hint = f"put the command first, as in: ego4dfs mount {name} …"
        raise ConfigError(f"no command before {name}", hint=hint)
    close = difflib.get_close_matches(name.lower(), COMMANDS, n=1)
    hint = f"did you mean {close[0]}?" if close else f"commands: {', '.join(COMMANDS)}"
    raise ConfigError(f"there is no command {name}", hint=hint)


def load(name: str) -> Command:
    """Import and return the module of a command."""
    return cast("Command", importlib.import_module(f"ego4dfs.cli.{name}"))
