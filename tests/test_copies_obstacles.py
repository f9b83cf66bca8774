"""Something else is where copies need a directory or a file: it is named, with what to do."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from ego4dfs.cli import main
from ego4dfs.cli.output import ExitCode
from ego4dfs.copies import Journal, Layout
from ego4dfs.errors import OutputError
from kit.cli import run_cli

COMMANDS = ("prefetch", "verify")
REMEDY = "hint: remove or rename it, or name another directory with -o"


def file_at(path: Path) -> Path:
    path.write_text("a file of the user")
    return path


def loop_at(path: Path) -> Path:
    path.symlink_to(path)
    return path


TARGETS = {
    "a file": (file_at, "not a directory"),
    "below a file": (lambda path: file_at(path) / "copies", "not a directory"),
    "a link to itself": (loop_at, "too many levels of symbolic links"),
    "a name that is too long": (lambda path: path.parent / ("x" * 300), "file name too long"),
}


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("kind", TARGETS)
def test_a_target_that_cannot_be_a_directory_is_an_error_before_any_request(
    command, kind, tmp_path, capsys, monkeypatch
):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    make, reason = TARGETS[kind]
    target = make(tmp_path / "target")
    assert main([command, "-o", str(target), "-y"]) == ExitCode.USAGE
    lines = capsys.readouterr().err.splitlines()
    assert lines == [f"ego4dfs: {target}: {reason}", "  hint: name a directory with -o"]


@pytest.fixture
def version(release, licensee, tmp_path) -> Path:
    """The directory of the version of two datasets, to prefetch into."""
    release.dataset("clips", {"a.mp4": b"a", "b.mp4": b"b"})
    release.dataset("viz", {"c.jpg": b"c"})
    return tmp_path / "out" / release.version


@pytest.fixture
def run(version, release):
    def run_one(command: str, *flags: str) -> subprocess.CompletedProcess[str]:
        where = ("-o", str(version.parent), "--version", release.version)
        return run_cli(command, *where, "-y", "--no-metadata", *flags, check=False)

    return run_one


@pytest.mark.parametrize("obstacle", ["clips", "clips/.ego4dfs", "clips/manifest.csv"])
def test_what_is_in_the_way_of_a_dataset_is_named_for_each_of_its_files(run, version, obstacle):
    path = version / obstacle
    if path.suffix == ".csv":
        path.mkdir(parents=True)
    else:
        path.parent.mkdir(parents=True)
        file_at(path)
    done = run("prefetch", "--datasets", "clips", "viz")
    assert done.returncode == ExitCode.PARTIAL
    reason = "is a directory" if path.suffix == ".csv" else "not a directory"
    assert done.stderr.count(f": cannot be written: {path}: {reason}\n") == 2
    assert (version / "viz/c.jpg").read_bytes() == b"c"


@pytest.mark.parametrize("command", COMMANDS)
def test_a_file_in_the_place_of_the_version_is_named_with_the_remedy(command, run, version):
    version.parent.mkdir()
    file_at(version)
    done = run(command, *(("--datasets", "clips") if command == "prefetch" else ()))
    assert done.returncode == ExitCode.FAILURE
    assert f"ego4dfs: {version}: not a directory\n" in done.stderr
    assert REMEDY in done.stderr


def test_files_of_a_dataset_that_is_a_file_are_missing(run, version):
    assert run("prefetch", "--datasets", "clips").returncode == ExitCode.OK
    (version / "clips").rename(version / "kept")
    file_at(version / "clips")
    done = run("verify", "--datasets", "clips")
    assert done.returncode == ExitCode.FAILURE
    assert "2 missing" in done.stdout
    assert "damaged" not in done.stdout


@pytest.mark.parametrize("record", ["", "lock", "journal.sqlite"])
def test_what_is_in_the_way_of_our_records_is_named_with_the_remedy(run, version, record):
    path = version.parent / ".ego4dfs" / record
    path.parent.mkdir(parents=True)
    if record:
        path.mkdir(parents=True)
    else:
        file_at(path)
    done = run("prefetch", "--datasets", "clips")
    assert done.returncode == ExitCode.FAILURE
    reason = "is a directory" if record else "not a directory"
    assert f"ego4dfs: {path}: {reason}\n" in done.stderr
    assert ("hint: remove it: ego4dfs creates a new one" if record else REMEDY) in done.stderr


def test_a_read_only_disk_is_named_with_the_remedy(run, version, small_disk):
    version.parent.symlink_to(small_disk)
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    done = run("prefetch", "--datasets", "clips")
    assert done.returncode == ExitCode.FAILURE
    assert "read-only file system\n  hint: name a directory that can be written" in done.stderr


def test_a_path_that_is_too_long_for_the_journal_is_named_as_such(tmp_path, monkeypatch):
    """SQLite only says that it cannot open the file, as where permission is missing."""
    place = tmp_path
    while len(str(place)) < 3800:
        place /= "d" * 200
    place /= "d" * (4085 - len(str(place)))
    parent = tmp_path
    monkeypatch.chdir(parent)
    for part in place.relative_to(parent).parts:
        os.mkdir(part)
        monkeypatch.chdir(part)
    layout = Layout(place, "v9")
    layout.prepare(())
    with pytest.raises(OutputError, match="file name too long") as raised:
        Journal(layout.state)
    assert "shorter path" in raised.value.hint
