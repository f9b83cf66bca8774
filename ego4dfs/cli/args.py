"""The flags: those of the official `ego4d` command, once, and ours beside them.

A command line of the official tool works here after the command's name. On top of argparse:
dashes and underscores are the same, in abbreviations too; a path behind a list of names is the
positional argument and no name; what is wrong becomes a ConfigError with a remedy.
"""

from __future__ import annotations

import argparse
import difflib
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NoReturn, TextIO

from ego4dfs import config, datasets
from ego4dfs.config import values
from ego4dfs.errors import ConfigError
from ego4dfs.text import shell_word

_Group = argparse._ArgumentGroup  # noqa: SLF001 - argparse gives its groups no public name


class Parser(argparse.ArgumentParser):
    """The parser of one command.

    Options that were not given are absent from the namespace, so that config file and
    environment can speak for them.
    """

    def __init__(self, *, prog: str, description: str = "", epilog: str = "") -> None:
        super().__init__(
            prog=prog,
            description=description,
            epilog=epilog,
            allow_abbrev=False,
            argument_default=argparse.SUPPRESS,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )

    def parse(self, argv: Sequence[str]) -> argparse.Namespace:
        """Return what the command line says. Raises ConfigError, or SystemExit after --help."""
        end = argv.index("--") if "--" in argv else len(argv)
        words = [self._spell(word) for word in argv[:end]]
        if "-lh" in self._option_string_actions and {"-l", "--long"} & {*words}:
            words = [word for word in words if word != "-h"]  # units, as ls(1) has it, and no help
        return self.parse_args([*self._paths_first(words), *argv[end:]])

    def format_help(self) -> str:
        """Return the help, with a usage line that leaves the options to the list below it."""
        names = []
        for action in self._actions:
            if not action.option_strings:
                name = str(action.metavar or "|".join(action.choices or [action.dest]))
                names.append(f"[{name}]" if action.nargs in {"?", "*"} else name)
        self.usage = " ".join((self.prog, *names, "[OPTIONS]"))
        return super().format_help()

    def error(self, message: str) -> NoReturn:
        """Raise ConfigError in place of printing the usage, which hides the message."""
        raise ConfigError(message, hint=f"see {self.prog} --help")

    def _spell(self, word: str) -> str:
        """Return the option that was meant, in the spelling of its definition."""
        if not word.startswith("--") or word == "--":
            return word
        name, equals, value = word.partition("=")
        known = {_fold(option): option for option in self._option_string_actions}
        meant = [option for folded, option in known.items() if folded.startswith(_fold(name))]
        if _fold(name) in known:
            meant = [known[_fold(name)]]
        if len(meant) > 1:
            raise ConfigError(f"{name} is short for several options", hint=" ".join(sorted(meant)))
        if not meant:
            words = {folded.lstrip("-"): option for folded, option in known.items()}
            close = difflib.get_close_matches(_fold(name).lstrip("-"), words, n=1)
            hint = f"did you mean {words[close[0]]}?" if close else f"see {self.prog} --help"
            hint = _NEVER_THERE.get(_fold(name), hint)
            raise ConfigError(f"there is no option {name}", hint=hint)
        return meant[0] + equals + value

    def _paths_first(self, words: list[str]) -> list[str]:
        """Move paths out of the lists of names that would swallow them.

        In `--datasets clips ~/ego4d` the last word can only be the mountpoint: no dataset, uid,
        benchmark or university begins like a path.
        """
        paths: list[str] = []
        others: list[str] = []
        in_list = False
        for word in words:
            if word.startswith("-"):
                action = self._option_string_actions.get(word)
                in_list = action is not None and action.nargs in {"+", "*"}
            (paths if in_list and word.startswith(("/", "~", ".")) else others).append(word)
        return paths + others


def add_selection(
    parser: Parser,
    *,
    copies: bool = False,
    asks: bool = False,
    default: str = "all",
    output: str = "no effect here",
) -> None:
    """Add the official flags that select what to show or, with `copies`, to copy, and where.

    `asks` tells that the command asks before it fetches, though it copies nothing else.
    `default` says which datasets are meant without --datasets, `output` what -o is here.
    """
    group = parser.add_argument_group(
        "selection", "as in the official ego4d command; dashes and underscores are the same"
    )
    group.add_argument("-o", "--output_directory", metavar="DIR", help=output)
    _add_list(group, "--datasets", help=f"datasets (default: {default}); see --list-datasets")
    group.add_argument("--version", help="version of Ego4D: v1, v2 or v2_1 (default: v2_1)")
    _add_list(group, "--benchmarks", help="only files of these benchmarks: EM, FHO, AV, ...")
    _add_list(group, "--universities", help="only files of these universities")
    _add_list(group, "--video_uids", "--video_uid", help="only these videos or clips")
    group.add_argument(
        "--video_uid_file", metavar="FILE", help="the same, from a file of uids between blanks"
    )
    _add_list(group, "--annotations", help="only these annotations: narration, fho, vq, ...")
    group.add_argument(
        "--allow-missing", action="store_true", help="go on when a uid is in no dataset"
    )
    group.add_argument(
        "--manifest-override-path", metavar="FILE", help="manifest.csv of the only dataset"
    )
    group.add_argument(
        "--config_path", metavar="FILE", help="JSON file of defaults; flags win over it"
    )
    _add_more_filters(group)
    _add_switches(group)
    _add_copying(parser, shown=_COPYING if copies else [("-y", "--yes")] if asks else [])


def _add_more_filters(group: _Group) -> None:
    _add_list(
        group,
        "--clip_uids",
        "--clip_uid",
        help="only these clips, and the videos they are cut from",
    )
    _add_list(group, "--splits", help="only videos of these splits: train, or fho:train")
    group.add_argument(
        "--uids-from",
        metavar="FILE",
        help="only videos and clips named in this JSON or CSV: on disk, or in the tree as"
        " annotations/fho_main_train.json",
    )
    for option, effect in (("--include", "only"), ("--exclude", "no")):
        group.add_argument(
            option,
            action="append",
            metavar="PATTERN",
            help=f"{effect} files with such a name: '*.csv'",
        )


def _add_list(group: _Group, *spellings: str, help: str) -> None:  # noqa: A002 - as argparse has it
    """Add an option that takes words, separated by blanks or commas, once or several times."""
    nargs = "*" if spellings[0] in {"--benchmarks", "--annotations"} else "+"  # as the official
    group.add_argument(*spellings, nargs=nargs, action="extend", metavar="NAME", help=help)


def _add_switches(group: _Group) -> None:
    group.add_argument(
        "--metadata", action="store_true", help="show ego4d.json at the root (the default)"
    )
    group.add_argument(
        "--no-metadata", dest="metadata", action="store_false", help="leave ego4d.json out"
    )
    group.add_argument(
        "--manifest", action="store_true", help="show the manifest.csv of full_scale at the root"
    )
    group.add_argument(
        "--list-datasets", action="store_true", help="print the known datasets, and nothing else"
    )


_COPYING = {
    ("-y", "--yes"): "do not ask before fetching",
    ("--bypass-existing",): "take files that are there for right, if their size is",
    ("--skip-s3-checks",): "do not ask for sizes first: no estimate, files are just fetched",
}


def _add_copying(parser: Parser, *, shown: Collection[tuple[str, ...]]) -> None:
    """Add the official flags that steer copying; only those `shown` have an effect.

    They are taken there too, so that a command line of `ego4d` can be pasted.
    """
    group = parser.add_argument_group("copying")
    for spellings, text in _COPYING.items():
        dest = "assume_yes" if "-y" in spellings else spellings[0][2:].replace("-", "_")
        effect = text if spellings in shown else argparse.SUPPRESS
        group.add_argument(*spellings, dest=dest, action="store_true", help=effect)


def add_mountpoint(parser: Parser) -> None:
    """Add MOUNTPOINT; -o/--output_directory of the selection names it too."""
    parser.add_argument(
        "mountpoint", nargs="?", metavar="MOUNTPOINT", help="directory to show Ego4D in"
    )


def add_store(parser: Parser) -> None:
    """Add the flags that say where objects come from, and with whose credentials."""
    group = parser.add_argument_group("store")
    group.add_argument(
        "--aws_profile_name",
        metavar="NAME",
        help="profile of ~/.aws to use; without it the normal chain of credentials",
    )
    group.add_argument("--endpoint-url", metavar="URL", help="another S3 server than Amazon's")
    group.add_argument(
        "--source",
        metavar="URL",
        help="a directory or fsspec URL in place of S3, with <bucket>/<key> below it",
    )
    group.add_argument(
        "--transport",
        metavar="NAME",
        help="library that talks to S3: auto (default), obstore or s3fs",
    )


def add_retry_for(group: argparse._ActionsContainer) -> None:
    """Add the flag that says how long to wait for the store."""
    group.add_argument(
        "--retry-for",
        metavar="TIME",
        help="how long to wait while the store does not answer: 30s, 10m, 1h (default) or 1d; with"
        " 0 it is given up after some seconds",
    )


def add_cache(parser: Parser) -> None:
    """Add the flags of the block cache."""
    group = parser.add_argument_group("cache")
    group.add_argument(
        "--cache-dir", metavar="DIR", help="where blocks are kept (default: ~/.cache/ego4dfs)"
    )
    group.add_argument(
        "--cache-size", metavar="SIZE", help="bound of the cache, such as 50GiB or 500MB"
    )
    group.add_argument(
        "--eviction",
        metavar="WHICH",
        help="what leaves a full cache: lru, the least recently used (default), or none, which"
        " keeps what came first: for training on more than fits",
    )


def config_from(
    args: argparse.Namespace, environ: Mapping[str, str] | None = None
) -> config.Config:
    """Return the Config of this command line, the environment and the config file.

    Raises ConfigError that calls each flag as the user writes it.
    """
    keys = {*config.KEYS, "config_path"}
    given = {key: value for key, value in vars(args).items() if key in keys}
    return config.resolve(given, environ=environ, named=_flag)


def path_of(text: str, what: str) -> Path:
    """Return a path of the command line, absolute, `~` expanded; links are not followed.

    Raises ConfigError that calls it `what`.
    """
    return values.path(values.Given(text, what))


def mountpoint_of(settled: config.Config) -> Path:
    """Return the mountpoint. Raises ConfigError if none was given."""
    if settled.output_directory is None:
        raise ConfigError(
            "no MOUNTPOINT was given",
            hint="put it first: ego4dfs mount ~/ego4d --datasets full_scale annotations",
        )
    return settled.output_directory


def command_line(parser: Parser, args: argparse.Namespace) -> str:
    """Return the command that says the same as `args`, to be pasted into a shell."""
    options: list[str] = []
    first: list[str] = []  # a list of names would swallow them
    last: list[str] = []
    for action in parser._actions:  # noqa: SLF001 - as in Parser
        if action.dest not in args or (
            action.nargs == 0 and getattr(args, action.dest) != action.const
        ):
            continue
        given = getattr(args, action.dest)
        values = [] if action.nargs == 0 else given if isinstance(given, list) else [given]
        if action.option_strings:
            options += _option_words(action, [str(value) for value in values])
        elif str(given).startswith("-"):
            last = ["--", str(given)]
        else:
            first.append(str(given))
    return " ".join(map(shell_word, [*parser.prog.split(), *first, *options, *last]))


def _option_words(action: argparse.Action, values: list[str]) -> Iterator[str]:
    """Yield the words that give an option these values, in this order."""
    option = action.option_strings[-1]
    is_open = False  # a value may follow without the option's name
    if not values:
        yield option
    for value in values:
        if value.startswith("-") or (action.nargs and value.startswith(("/", "~", "."))):
            yield f"{option}={value}"
            is_open = False
        elif is_open:
            yield value
        else:
            yield from (option, value)
            is_open = bool(action.nargs)


def list_datasets(stream: TextIO) -> None:
    """Print every known dataset and what it is, in the official tool's form."""
    stream.write("\nAvailable Ego4D datasets:\n")
    stream.writelines(
        f"   {dataset.name:<21}\t{dataset.description}\n" for dataset in datasets.known()
    )
    stream.write("\n")


def _flag(key: str) -> str:
    if key == "mountpoint":
        return "MOUNTPOINT"
    return "--" + (key if key in _UNDERSCORED else key.replace("_", "-"))


_NEVER_THERE = {
    "--raw-components": "Ego4D's documentation has it, and no tool: the raw recordings are"
    " datasets, as in --datasets components/videos components/imu"
}


def _fold(option: str) -> str:
    return option.replace("_", "-")


_UNDERSCORED = frozenset(
    (
        *("output_directory", "video_uids", "video_uid_file", "clip_uids"),
        *("aws_profile_name", "config_path"),
    )
)
