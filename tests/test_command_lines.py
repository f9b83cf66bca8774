"""Command lines of the official README and of the documentation are accepted."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from ego4dfs.cli import COMMANDS, parser_of
from ego4dfs.cli.options import config_from

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]

# Each as its author wrote it, and what it means: datasets, then all else that is not the default.
OFFICIAL = {
    'ego4d --output_directory="~/ego4d_data" --datasets annotations': (("annotations",), {}),
    'ego4d --output_directory="~/ego4d_data" --datasets full_scale annotations --metadata': (
        ("full_scale", "annotations"),
        {},
    ),
    'python -m ego4d.cli.cli --output_directory="~/ego4d_data"'
    " --datasets full_scale annotations --metadata --version v2": (
        ("full_scale", "annotations"),
        {"version": "v2"},
    ),
}
# One line for each row of its table of flags, as the table spells them.
FLAGS = {
    "--dataset annotations full_scale clips": {"datasets": ("annotations", "full_scale", "clips")},
    "--metadata": {"metadata": True},
    "--no-metadata": {"metadata": False},
    "--benchmarks Narrations EM FHO AV": {"benchmarks": ("narrations", "em", "fho", "av")},
    "-y": {"assume_yes": True},
    "--yes": {"assume_yes": True},
    "--aws_profile_name ego4d": {"aws_profile_name": "ego4d"},
    "--video_uids A b": {"video_uids": ("a", "b")},
    "--video_uid_file uids.txt": {"video_uids": ("a", "b")},
    "--universities bristol cmu_africa": {"universities": ("bristol", "cmu_africa")},
    "--version v1": {"version": "v1"},
    "--config config.json": {"datasets": ("viz",)},
}


@pytest.fixture(autouse=True)
def directory(tmp_path, monkeypatch):
    """Files that lines name, in the working directory and at home."""
    (tmp_path / "uids.txt").write_text("A\n b\n")
    (tmp_path / "config.json").write_text('{"datasets": ["viz"]}')
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))


def settle(words: list[str], command: str = "prefetch"):
    return config_from(parser_of(command).parse(words), environ={})


@pytest.mark.parametrize("line", OFFICIAL)
def test_lines_of_the_official_readme_mean_the_same(line, tmp_path):
    datasets, others = OFFICIAL[line]
    words = shlex.split(line)
    config = settle(words[3:] if words[0] == "python" else words[1:])
    assert config.output_directory == tmp_path / "ego4d_data"
    assert config.datasets == datasets
    assert config.metadata
    assert config.version == others.get("version", "v2_1")


@pytest.mark.parametrize("line", FLAGS)
@pytest.mark.parametrize("command", ["prefetch", "mount"])
def test_every_flag_of_its_table_means_what_it_says(line, command):
    config = settle(["-o", "out", *shlex.split(line)], command)
    assert {name: getattr(config, name) for name in FLAGS[line]} == FLAGS[line]


def documented() -> list[tuple[str, str]]:
    """Return the `ego4dfs …` lines of code blocks, by page."""
    found = []
    for page in PAGES:
        for block in re.findall(r"^```\w*\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL):
            for line in block.replace("\\\n", " ").splitlines():
                words = line.removeprefix("$ ").strip()
                if words.startswith("ego4dfs ") and "COMMAND" not in words:
                    found.append((page.name, words))
    return found


@pytest.mark.parametrize(("page", "line"), documented())
def test_lines_of_the_documentation_are_accepted(page, line):
    words = re.split(r"\s[|&>;]", line)[0]
    name, *rest = shlex.split(words, comments=True)[1:]
    assert name in COMMANDS, page
    given = parser_of(name).parse([word for word in rest if word not in ("…", "...")])
    if hasattr(given, "datasets"):
        spelt = re.search(r"--datasets ((?:\w[\w/]* ?)+)", words)
        assert spelt is not None
        assert given.datasets == spelt[1].split()


def test_the_documentation_has_command_lines():
    assert len(documented()) > 15
