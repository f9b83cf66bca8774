"""The options that commands share: those of the official `ego4d` command, and more.

A command line of the official tool works here after the command's name. Options that the config
file and the environment may set too have no default: without the flag they are absent from the
namespace.
"""

from __future__ import annotations

import argparse
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TextIO

from ego4dfs import config, datasets
from ego4dfs.cli.parser import Parser
from ego4dfs.config import values
from ego4dfs.errors import ConfigError

_Group = argparse._ArgumentGroup  # noqa: SLF001 - argparse gives its groups no public name


def add_selection(
    parser: Parser,
    *,
    copies: bool = False,
    confirms: bool = False,
    default: str = "all",
    output: str = "accepted, and ignored",
    output_metavar: str = "DIR",
) -> None:
    """Add the official options that select what to show or, with `copies`, to copy, and where.

    With `confirms`, --yes has an effect too, because the command asks before it fetches.
    `default` says which datasets are meant without --datasets, `output` what -o means.
    """
    group = _add_group(
        parser, "selection", "as in the official ego4d command, and more; - and _ are the same"
    )
    group.add_argument("-o", "--output_directory", metavar=output_metavar, help=output)
    _add_list(group, "--datasets", help=f"datasets (default: {default}); see --list-datasets")
    group.add_argument("--version", help="version of Ego4D: v1, v2 or v2_1 (default: v2_1)")
    _add_list(group, "--benchmarks", help="only files of these benchmarks: EM, FHO, AV, ...")
    _add_list(group, "--universities", help="only files of these universities")
    _add_list(group, "--video_uids", "--video_uid", help="only these videos or clips")
    group.add_argument(
        "--video_uid_file",
        metavar="FILE",
        help="read the uids from FILE (separated by whitespace or commas)",
    )
    _add_list(group, "--annotations", help="only these annotations: narration, fho, vq, ...")
    group.add_argument(
        "--allow-missing", action="store_true", help="warn instead of failing if a uid is not found"
    )
    group.add_argument(
        "--manifest-override-path",
        metavar="FILE",
        help="use this local manifest.csv (needs exactly one dataset in --datasets)",
    )
    group.add_argument(
        "--config_path", metavar="FILE", help="JSON file of defaults; options override it"
    )
    _add_more_filters(group)
    _add_switches(group)
    _add_copying(parser, shown=_COPYING if copies else [("-y", "--yes")] if confirms else [])


def _add_group(parser: Parser, title: str, description: str | None = None) -> _Group:
    """Add a group of options that the config file and the environment may set too."""
    return parser.add_argument_group(title, description, argument_default=argparse.SUPPRESS)


def _add_more_filters(group: _Group) -> None:
    _add_list(
        group,
        "--clip_uids",
        "--clip_uid",
        help="only these clips, and the videos they were cut from",
    )
    _add_list(group, "--splits", help="only videos of these splits: train, or fho:train")
    group.add_argument(
        "--uids-from",
        metavar="FILE",
        help="only videos and clips whose uids are in this JSON or CSV file: a local file, or a"
        " path in the tree such as annotations/fho_main_train.json",
    )
    group.add_argument(
        "--include",
        action="append",
        metavar="PATTERN",
        help="only files whose name matches this glob, e.g. '*.csv'",
    )
    group.add_argument(
        "--exclude",
        action="append",
        metavar="PATTERN",
        help="leave out files whose name matches this glob, e.g. '*.csv'",
    )


def _add_list(group: _Group, *spellings: str, help: str) -> None:  # noqa: A002 - as argparse has it
    """Add an option that takes words, separated by spaces or commas, once or several times."""
    nargs = "*" if spellings[0] in {"--benchmarks", "--annotations"} else "+"  # as in ego4d
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
        "--list-datasets", action="store_true", help="print the known datasets, and exit"
    )


_COPYING = {
    ("-y", "--yes"): "do not ask before fetching",
    ("--bypass-existing",): "treat an existing file as complete if its size matches",
    ("--skip-s3-checks",): "do not request sizes first; then there is no estimate",
}


def _add_copying(parser: Parser, *, shown: Collection[tuple[str, ...]]) -> None:
    """Add the official options that control copying; only those `shown` have an effect.

    The others are accepted too, so that a command line of `ego4d` can be pasted.
    """
    group = _add_group(parser, "copying")
    for spellings, text in _COPYING.items():
        dest = "assume_yes" if "-y" in spellings else spellings[0][2:].replace("-", "_")
        effect = text if spellings in shown else argparse.SUPPRESS
        group.add_argument(*spellings, dest=dest, action="store_true", help=effect)


def add_mountpoint(parser: Parser) -> None:
    """Add MOUNTPOINT; -o/--output_directory of the selection names it too."""
    parser.add_argument(
        "mountpoint",
        nargs="?",
        metavar="MOUNTPOINT",
        default=argparse.SUPPRESS,
        help="directory to mount Ego4D on",
    )


def add_store(parser: Parser) -> None:
    """Add the options that say where objects come from, and with whose credentials."""
    group = _add_group(parser, "store")
    group.add_argument(
        "--aws_profile_name",
        metavar="NAME",
        help="AWS profile to use (default: the AWS credential chain)",
    )
    group.add_argument("--endpoint-url", metavar="URL", help="an S3 server other than Amazon's")
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
    group.add_argument(
        "--emulate",
        metavar="WHAT",
        help="for trying and testing: make the store slower and make requests fail, e.g."
        " rtt=30ms,rate=80MB/s,fail=503:1%%",
    )
    group.add_argument(
        "--limit-rate",
        metavar="RATE",
        help="fetch at most this many bytes per second, e.g. 200MB/s",
    )
    group.add_argument(
        "--limit-requests",
        metavar="RATE",
        help="send at most this many requests per second to the store, e.g. 500/s",
    )


def add_near(parser: Parser) -> None:
    """Add the options of the near tier: an object store of a lab, which is read before S3."""
    group = _add_group(
        parser, "near tier", "an object store near this machine, which is read before S3"
    )
    group.add_argument(
        "--near",
        metavar="URL",
        help="s3://bucket/prefix of a SeaweedFS, MinIO, Ceph or other S3 server of your own",
    )
    add_near_connection(group)
    group.add_argument(
        "--fill-near",
        action="store_true",
        help="write what was fetched from S3 there, so that other machines need not fetch it",
    )


def add_near_connection(group: argparse._ActionsContainer) -> None:
    """Add the options that say how to reach a near tier."""
    group.add_argument("--near-endpoint", metavar="URL", help="its URL, e.g. http://s3.lab:8333")
    group.add_argument(
        "--near-profile", metavar="NAME", help="AWS profile with its key (default: as for S3)"
    )


def add_retry_for(group: argparse._ActionsContainer) -> None:
    """Add the option that says how long to retry while the store does not answer."""
    group.add_argument(
        "--retry-for",
        metavar="TIME",
        default=argparse.SUPPRESS,
        help="how long to retry while the store does not answer: 30s, 10m, 1h (default) or 1d;"
        " 0 gives up after a few seconds",
    )


def add_cache(parser: Parser) -> None:
    """Add the options of the block cache."""
    group = _add_group(parser, "cache")
    group.add_argument(
        "--cache-dir", metavar="DIR", help="directory of the cache (default: ~/.cache/ego4dfs)"
    )
    group.add_argument(
        "--cache-size",
        metavar="SIZE",
        help="maximum size of the cache, e.g. 50GiB or 500MiB (default: the limit that the cache"
        " has; for a new cache, a quarter of the free disk)",
    )
    group.add_argument(
        "--eviction",
        metavar="WHICH",
        help="what to remove from a full cache: lru, the least recently used blocks, or none: keep"
        " the oldest blocks, for training on more data than fits (default: the policy that the"
        " cache has; for a new cache, lru)",
    )


def add_json(parser: argparse._ActionsContainer, help: str = "print as JSON") -> None:  # noqa: A002
    """Add the option that prints the result as JSON."""
    parser.add_argument("--json", action="store_true", help=help)


def config_from(
    args: argparse.Namespace, environ: Mapping[str, str] | None = None
) -> config.Config:
    """Return the Config of this command line, the environment and the config file.

    Raises ConfigError, which names each option as the user writes it.
    """
    keys = {*config.KEYS, "config_path"}
    given = {key: value for key, value in vars(args).items() if key in keys}
    return config.resolve(given, environ=environ, named=_flag)


def path_of(text: str, what: str) -> Path:
    """Return a path of the command line, absolute, `~` expanded; links are not followed.

    Raises ConfigError, which names it `what`.
    """
    return values.path(values.Given(text, what))


def mountpoint_of(resolved: config.Config) -> Path:
    """Return the mountpoint. Raises ConfigError if none was given."""
    if resolved.output_directory is None:
        raise ConfigError(
            "no MOUNTPOINT was given",
            hint="put it first: ego4dfs mount ~/ego4d --datasets full_scale annotations",
        )
    return resolved.output_directory


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


_UNDERSCORED = frozenset(
    (
        *("output_directory", "video_uids", "video_uid_file", "clip_uids"),
        *("aws_profile_name", "config_path"),
    )
)
