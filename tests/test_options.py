"""The command line: official flags in all their spellings, and the traps of argparse."""

import io
import shlex
from pathlib import Path

import pytest
from ego4d.cli import config as official

from ego4dfs import datasets
from ego4dfs.cli import options
from ego4dfs.cli.parser import Parser
from ego4dfs.config import Config
from ego4dfs.errors import ConfigError


@pytest.fixture(autouse=True)
def home(monkeypatch, tmp_path):
    """A home with a file of uids and a config file, as the working directory."""
    (tmp_path / "uids").write_text("AA bb\ncc\n")
    (tmp_path / "config.json").write_text('{"datasets": ["viz"], "benchmarks": ["EM"]}')
    (tmp_path / "manifest.csv").write_text("video_uid,s3_path\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def new_parser():
    parser = Parser(prog="ego4dfs mount", description="Show it.", epilog="exit codes")
    options.add_mountpoint(parser)
    options.add_selection(parser)
    options.add_store(parser)
    options.add_near(parser)
    options.add_cache(parser)
    return parser


def settle(line):
    return options.config_from(new_parser().parse(shlex.split(line)), environ={})


def refused(line):
    with pytest.raises(ConfigError) as caught:
        settle(line)
    return str(caught.value), caught.value.hint


# The official command lines

OFFICIAL_LINES = [
    # README
    '--output_directory="~/ego4d_data" --datasets annotations',
    '--output_directory="~/ego4d_data" --datasets full_scale annotations --metadata',
    '--output_directory="~/ego4d_data" --datasets full_scale annotations --metadata --version v2',
    "--output_directory=~/e --datasets clips --benchmarks EM FHO -y",
    "--output_directory=~/e --dataset clips --benchmark FHO --yes",
    "--output_directory=~/e --datasets clips --aws_profile_name ego4d --no-metadata",
    "--output_directory=~/e --datasets full_scale --video_uids AA-11 bb-22",
    "--output_directory=~/e --datasets full_scale --video_uid_file uids",
    "--output_directory=~/e --datasets full_scale --universities unict cmu_africa fair",
    "--output_directory=~/e --version v1 --config_path config.json --datasets annotations",
    # docs, issues and flags that the README leaves out
    "-o ~/e --datasets 3d 3d_scans omnivore_video_swinl --manifest",
    "--output ~/e --dataset video_540ss --manifest-override-path ~/manifest.csv --bypass-existing",
    "-o ~/e --datasets components/videos --skip-s3-checks --version=v2_1 -y --benchmarks",
    "-o ~/e --datasets annotations --annotations",
    "-o ~/e --datasets annotations --config config.json",
    "-o ~/e --datasets=clips --univ nus --aws default --bypass --skip --no-meta",
]


@pytest.mark.parametrize("line", OFFICIAL_LINES)
def test_an_official_line_means_the_same_here(line):
    # Their parser keeps dicts and sets in no order; an unknown dataset only prints.
    theirs = official.config_from_args(shlex.split(line))
    ours = settle(line)
    assert ours.output_directory == Path(theirs.output_directory).expanduser()
    assert ours.version == theirs.version
    assert list(ours.datasets) == theirs.datasets
    assert list(ours.benchmarks) == [name.lower() for name in theirs.benchmarks]
    assert list(ours.universities) == list(theirs.universities)
    assert list(ours.video_uids) == [uid.lower() for uid in theirs.video_uids]
    assert ours.metadata == theirs.metadata
    assert ours.manifest == theirs.manifest
    assert ours.assume_yes == theirs.assume_yes
    assert ours.bypass_existing == theirs.bypass_version_check
    assert ours.skip_s3_checks == theirs.skip_s3_checks
    # "default" was always passed by the official tool; here it is a profile only if named.
    assert ours.aws_profile_name == ("" if "aws" not in line else theirs.aws_profile_name)


def test_what_the_official_parser_refuses_is_refused_here():
    for line in ("--video_uids a --video_uid_file uids", "--universities nowhere", "--bogus"):
        with pytest.raises((SystemExit, RuntimeError)):
            official.config_from_args(["-o", "x", *shlex.split(line)])
        assert refused("-o x " + line)


def test_nothing_given_is_the_default():
    assert settle("") == Config()


# Spellings


@pytest.mark.parametrize(
    ("line", "field", "expected"),
    [
        ("--video_uids A", "video_uids", ("a",)),
        ("--video-uids A", "video_uids", ("a",)),
        ("--video_uid A B", "video_uids", ("a", "b")),
        ("--video-uid A", "video_uids", ("a",)),
        ("--video-uid-f uids", "video_uids", ("aa", "bb", "cc")),
        ("--output-directory /x", "output_directory", Path("/x")),
        ("--output_dir /x", "output_directory", Path("/x")),
        ("--output /x", "output_directory", Path("/x")),
        ("-o/x", "output_directory", Path("/x")),
        ("--ver v1", "version", "v1"),
        ("--config_path config.json", "datasets", ("viz",)),
        ("--config-path config.json", "datasets", ("viz",)),
        ("--config config.json", "datasets", ("viz",)),
        ("--config=~/config.json --dataset imu", "datasets", ("imu",)),
        ("--aws-profile-name p", "aws_profile_name", "p"),
        ("--no_metadata", "metadata", False),
        ("--no-metadata --metadata", "metadata", True),
        ("--manifest", "manifest", True),
        ("--cache_size 1GiB", "cache_max_bytes", 2**30),
        ("--cache_dir /c", "cache_dir", Path("/c")),
        ("--endpoint_url http://h:1", "endpoint_url", "http://h:1"),
        ("--source /mirror", "source", "/mirror"),
        ("--transport S3FS", "transport", "s3fs"),
        ("--allow_missing", "allow_missing", True),
        ("--annotation narration fho", "annotations", ("narration", "fho")),
    ],
)
def test_flags_may_have_dashes_or_underscores_and_may_be_abbreviated(line, field, expected):
    assert getattr(settle(line), field) == expected


def test_underscores_in_values_are_kept():
    assert settle("--source=mem_x://a_b").source == "mem_x://a_b"


def test_an_override_is_found_in_either_spelling(home):
    for option in ("--manifest-override-path", "--manifest_override_path", "--manifest_o"):
        settled = settle(f"--datasets clips {option} ~/manifest.csv")
        assert settled.manifest_override_path == home / "manifest.csv"
        assert not settled.manifest


def test_lists_may_be_repeated_and_separated_by_commas():
    line = "--datasets full_scale,annotations --version v1 --datasets imu"
    assert settle(line).datasets == ("full_scale", "annotations", "imu")


def test_an_empty_list_overrides_the_config_file():
    assert settle("--config config.json --benchmarks").benchmarks == ()


# The positional argument beside lists


@pytest.mark.parametrize(
    "line",
    [
        "~/m --datasets full_scale annotations",
        "--datasets full_scale annotations ~/m",
        "--datasets full_scale ~/m annotations",
        "--datasets full_scale annotations ./m",
        "--datasets full_scale annotations -- m",
        "--datasets full_scale annotations --metadata m",
        "--benchmarks ~/m --datasets full_scale annotations",
    ],
)
def test_a_path_after_a_list_is_the_mountpoint(line, home):
    settled = settle(line)
    assert settled.output_directory == home / "m"
    assert settled.datasets == ("full_scale", "annotations")


def test_the_value_of_another_option_is_unchanged(home):
    settled = settle("--datasets clips --cache-dir ./c -o ~/m")
    assert settled.output_directory == home / "m"
    assert (settled.datasets, settled.cache_dir) == (("clips",), home / "c")


def test_a_nested_dataset_is_not_a_path():
    assert settle("--datasets components/videos /m").datasets == ("components/videos",)


def test_two_mountpoints_are_refused():
    assert refused("/a --datasets clips /b")[0] == "unrecognized arguments: /b"
    text, _ = refused("/a -o /b")
    assert "not allowed with" in text
    assert "MOUNTPOINT" in text


def test_a_missing_mountpoint_is_an_error_with_an_example():
    with pytest.raises(ConfigError, match="no MOUNTPOINT was given") as caught:
        options.mountpoint_of(settle("--datasets full_scale m"))
    assert caught.value.hint.startswith("put it first: ego4dfs mount")
    assert options.mountpoint_of(settle("/m")) == Path("/m")


# What is refused, and how


@pytest.mark.parametrize(
    ("line", "message", "hint"),
    [
        ("--datsets x", "there is no option --datsets", "did you mean --datasets?"),
        ("--video_idus=x", "there is no option --video_idus", "did you mean --video_uids?"),
        ("--raw_components", "there is no option --raw_components", "components/videos"),
        ("--colour", "there is no option --colour", "see ego4dfs mount --help"),
        (
            "--video x",
            "--video is short for several options",
            "--video_uid --video_uid_file --video_uids",
        ),
        ("--datasets", "argument --datasets: expected at least one argument", "--help"),
        ("--datasets ~/m", "argument --datasets: expected at least one argument", "--help"),
        ("--video_uid_file", "argument --video_uid_file: expected one argument", "--help"),
        ("-z", "unrecognized arguments: -z", "--help"),
        ("--cache_size 5", "--cache-size: expected a size of at least 64MiB", "50GiB"),
        ("--manifest_override_path no", "--manifest-override-path: there is no file", "path"),
        ("--config no.json", "--config_path: there is no file", "path"),
        ("--datasets ,../x", "--datasets: '../x' cannot be", "--list-datasets"),
        ("--univ mars", "--universities: expected a known university", "bristol"),
        ("--video_uids a --video_uid_file uids", "--video_uid_file: not allowed with", "one"),
        ("''", "MOUNTPOINT: expected a path, got ''", ""),
    ],
)
def test_a_wrong_line_is_explained(line, message, hint):
    text, remedy = refused(line)
    assert text.startswith(message)
    assert hint in remedy


def test_uids_of_the_config_file_and_a_file_of_uids_exclude_each_other(home):
    (home / "config.json").write_text('{"video_uids": ["a"]}')
    text, _ = refused("--config config.json --video_uid_file uids")
    assert text == f'--video_uid_file: not allowed with "video_uids" in {home / "config.json"}'


def test_every_flag_is_called_as_help_calls_it():
    """Messages name flags in a spelling that --help shows."""
    shown = new_parser().format_help()
    unseen = {"assume_yes", "bypass_existing", "bypass_version_check", "skip_s3_checks"}
    unseen |= {
        "libfuse",
        "copies",
        "retry_for",
        "verify",
        "hedge",
        "metrics",
        "log_format",
    }  # flags of one command or two
    for key in set(options.config.KEYS) - unseen:
        assert options._flag(key) in shown


def test_help_has_a_short_usage_line(capsys):
    with pytest.raises(SystemExit) as done:
        new_parser().parse(["--help"])
    assert done.value.code == 0
    text = capsys.readouterr().out
    assert text.startswith("usage: ego4dfs mount [MOUNTPOINT] [OPTIONS]\n")
    assert text.endswith("exit codes\n")


def test_the_usage_line_shows_choices():
    parser = Parser(prog="ego4dfs cache")
    parser.add_argument("action", choices=("info", "clear"))
    assert parser.format_help().startswith("usage: ego4dfs cache info|clear [OPTIONS]\n")


def test_help_is_shown_after_other_options(capsys):
    with pytest.raises(SystemExit):
        new_parser().parse(["--datasets", "x", "--hel"])
    assert capsys.readouterr().out


def test_datasets_are_listed_in_the_official_form():
    stream = io.StringIO()
    options.list_datasets(stream)
    lines = stream.getvalue().splitlines()
    assert lines[:2] == ["", "Available Ego4D datasets:"]
    assert lines[-1] == ""
    for dataset, line in zip(datasets.known(), lines[2:-1], strict=True):
        assert line == f"   {dataset.name:<21}\t{dataset.description}"
