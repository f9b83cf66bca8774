"""`ego4dfs completion`: print a completion script, made from the parsers by shtab."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence

from ego4dfs import datasets
from ego4dfs.cli import COMMANDS, load
from ego4dfs.cli.output import ExitCode
from ego4dfs.cli.parser import Parser
from ego4dfs.cli.streams import print_result

_SHELLS = ("bash", "zsh", "fish")

_INSTALLATION = """\
Print a completion script for a shell. Save it where the shell looks for it:

    bash  ~/.local/share/bash-completion/completions/ego4dfs
    zsh   ~/.zfunc/_ego4dfs, with ~/.zfunc in $fpath before compinit
    fish  ~/.config/fish/completions/ego4dfs.fish

For example: ego4dfs completion fish >~/.config/fish/completions/ego4dfs.fish
Without the package bash-completion, source the script from ~/.bashrc."""

WORDS: Mapping[str, Sequence[str]] = {
    "action": ("info", "verify", "clear", "unpin"),
    "annotations": ("av", "fho", "moments", "narration", "nlq", "vq"),
    "benchmarks": ("AV", "EM", "FHO", "MQ", "NLQ", "VQ", "goalstep"),
    "datasets": datasets.known_names(),
    "eviction": ("lru", "none"),
    "libfuse": ("2", "3"),
    "log_format": ("text", "json"),
    "operation": ("export", "import"),
    "splits": ("train", "val", "test"),
    "transport": ("auto", "obstore", "s3fs"),
    "universities": tuple(datasets.UNIVERSITY_BUCKETS),
    "verify": ("auto", "off"),
    "version": datasets.VERSIONS,
}
"""The words to complete, by the `dest` of the option. Options accept other values too."""

FILES = (
    "config_path",
    "file",
    "log_file",
    "manifest_override_path",
    "uids_from",
    "video_uid_file",
    "windows",
)
DIRECTORIES = ("cache_dir", "copies", "mountpoint", "mountpoints", "output_directory", "source")


def add_arguments(parser: Parser) -> None:
    """Add the options of `completion`."""
    parser.description = _INSTALLATION
    parser.add_argument("shell", choices=_SHELLS, help="the shell to complete in")


def run(args: argparse.Namespace) -> int:
    """Print the script."""
    import shtab  # noqa: PLC0415 - only this command needs it

    completed = dict.fromkeys(FILES, shtab.FILE) | dict.fromkeys(DIRECTORIES, shtab.DIR)
    print_result(shtab.complete(_program(completed), args.shell))
    return ExitCode.OK


def _program(completed: Mapping[str, object]) -> Parser:
    """Return one parser with all commands; `completed` maps a `dest` to shtab's mark for paths."""
    program = Parser(prog="ego4dfs")
    program.add_argument("-V", "--version", action="store_true", help="print the version")
    commands = program.add_subparsers(parser_class=Parser)
    for name, line in COMMANDS.items():
        command = commands.add_parser(name, help=line)
        load(name).add_arguments(command)
        command.description = line
        for action in command._actions:  # noqa: SLF001 - argparse has no public list of them
            if action.dest in completed:
                action.complete = completed[action.dest]  # type: ignore[attr-defined]  # for shtab
            elif action.nargs != 0:
                action.choices = action.choices or WORDS.get(action.dest)
    return program
