"""Command lines with mistakes: one line names the mistake, and none is reported as a bug."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from ego4dfs import cli

COMMANDS = (
    "ls",
    "clip",
    "prefetch",
    "verify",
    "cache",
    "status",
    "top",
    "doctor",
    "unmount",
    "mount",
)
ACTIONS = ("info", "verify", "unpin", "infoo", "", "clips")
VALUED = (
    *("--datasets", "--version", "--benchmarks", "--universities", "--video_uids", "--splits"),
    *("--video_uid_file", "--uids-from", "--annotations", "--clip_uids", "--include", "--exclude"),
    *("--manifest-override-path", "--config_path", "--aws_profile_name", "--endpoint-url"),
    *("--source", "--transport", "--cache-dir", "--cache-size", "--eviction", "--jobs", "--to"),
    *("--libfuse", "--copies", "--log-file", "-o", "--retry-for", "--verify"),
)
SWITCHES = (
    *("-l", "-h", "-lh", "--json", "--all", "--pin", "--dry-run", "--manifests-only", "--quiet"),
    *("--offline", "--prune", "--metadata", "--no-metadata", "--manifest", "--list-datasets"),
    *("--allow-missing", "--nonempty", "--", "-", "---", "--=", "-x", "--dat", "--video", "--c"),
)
VALUES = (
    *(
        "",
        " ",
        ",",
        "0",
        "-1",
        "1e999",
        "nan",
        "900TiB",
        "10",
        "é",
        "日本",
        "\x1b[2J",
        "\n",
        "\x00",
    ),
    *("a" * 300, "a/" * 3000, "/", ".", "..", "~", "~nobody-such", "/dev/null", "/dev/full"),
    *("/proc/self/mem", "/etc/passwd", "/root/../etc", "clips", "full_scale", "Clips", "clips/"),
    *("v1", "v2", "v99", "V2", "s3://b/k", "http://[", "http://x:99999", "file:///", "memory://"),
    *("[", "*", "**", "[!", "{}", "%s", "$(id)", "-", "--", "fho:train", ":", "train", "cmu"),
    *("[]", "null", "\udcff", "\ufeff", "2", "3", "lru", "none", "directory", "cache", "obstore"),
)


def line_of(rng: random.Random, place: Path) -> list[str]:
    """Return a command line with some meaningless words."""
    values = [
        *VALUES,
        str(place),
        str(place / "none"),
        str(place / "file"),
        str(place / "odd.json"),
    ]
    command = rng.choice(COMMANDS)
    words = [command]
    if command == "clip" and rng.random() < 0.7:
        words += [rng.choice(values), "1", rng.choice(("2", *values))]
    if command == "cache":
        words.append(rng.choice(ACTIONS))
    for _ in range(rng.randrange(5)):
        kind = rng.random()
        if kind < 0.6:
            words += [rng.choice(VALUED), *rng.choices(values, k=rng.choice((0, 1, 1, 1, 2)))]
        elif kind < 0.8:
            words.append(rng.choice(SWITCHES))
        else:
            words.append(rng.choice(values))
    return words


def is_harmless(words: list[str]) -> bool:
    """Return whether it can only fail: it copies and mounts nothing."""
    return not {"-o", "--output_directory"} & {*words} or words[0] in {"verify", "ls", "cache"}


@pytest.fixture
def place(options, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("x")
    (tmp_path / "odd.json").write_bytes(b'{"datasets": [1, null, {}], "cache_size": [], "x": 1}')
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path


@pytest.mark.fault(
    area="input",
    fault="command lines with mistakes",
    face="all",
    sees="one line that says what is wrong, and a remedy; exit code 2 or the one of its cause",
    deadline="at once",
)
@pytest.mark.parametrize("seed", range(8))
def test_no_mistake_ends_as_an_unexpected_error(place, seed, capfd):
    rng = random.Random(seed)
    for _ in range(40):
        words = line_of(rng, place)
        if not is_harmless(words) or words[0] == "mount":
            words = ["ls", *words[1:]]
        code = cli.main(words)
        text = capfd.readouterr().err
        assert "unexpected" not in text, words
        assert "Traceback" not in text, words
        assert code in range(6), words
        assert code or not text.startswith("ego4dfs: error"), words


def run_captured(capsys, *words: str) -> tuple[int, str]:
    code = cli.main(words)
    return code, capsys.readouterr().err


def test_a_message_shows_a_path_as_it_was_given(place, capsys):
    _, text = run_captured(capsys, "ls", "/x/y")
    assert text.startswith("ego4dfs: /x/y: no such file or directory in this selection")


def test_cache_without_an_action_says_which_there_are(place, capsys):
    code, text = run_captured(capsys, "cache", "--datasets", "clips", "info")
    assert code == 2
    assert "ego4dfs cache info|verify|clear|unpin" in text


@pytest.mark.parametrize("flags", [("-lh",), ("-hl",), ("-l", "-h"), ("-h", "-l")])
def test_ls_accepts_h_with_l_as_ls_does(place, flags, capsys):
    assert cli.main(["ls", "v2/clips", "--datasets", "clips", *flags]) == 0
    assert "1 B" in capsys.readouterr().out


def test_ls_h_alone_is_help(place, capsys):
    assert cli.main(["ls", "-h"]) == 0
    assert "usage: ego4dfs ls" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("command", "default", "directory"),
    [
        ("mount", "default: all", "the mountpoint, as the official tool names it"),
        ("prefetch", "default: annotations", "directory to download to"),
        ("verify", "default: all below -o", "directory of the downloaded files"),
        ("ls", "default: all", "accepted, and ignored"),
    ],
)
def test_help_describes_options_for_that_command(command, default, directory):
    text = " ".join(cli.parser_of(command).format_help().split())
    assert default in text
    assert f"--output_directory DIR {directory}" in text


@pytest.mark.parametrize(
    "words",
    [
        ("status", "~nobody-such"),
        ("unmount", "~nobody-such"),
        ("ls", "--source", "~nobody-such"),
        ("ls", "--cache-dir", "~nobody-such"),
        ("unmount", "a" * 300),
        ("ls", "--config_path", "a/" * 3000),
    ],
    ids=lambda words: " ".join(words)[:40],
)
def test_an_impossible_path_is_not_reported_as_a_bug(place, words, capsys):
    code, text = run_captured(capsys, *words)
    assert code
    assert "unexpected" not in text
    assert len(text.splitlines()) <= 2


def test_a_limit_above_the_size_of_the_disk_causes_a_warning(place, caplog):
    assert cli.main(["ls", "--datasets", "clips", "--cache-size", "900TiB"]) == 0
    assert "the limit of the cache is 900.0 TiB, but its disk has only" in caplog.text
