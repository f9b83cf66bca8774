"""`ego4dfs verify` reports selected files as missing, and fetches them only with --repair."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
from typing import TextIO

import pytest

from ego4dfs.cli import main
from ego4dfs.cli.output import ExitCode
from ego4dfs.copies import Layout
from ego4dfs.verify import datasets_below
from kit.cli import EGO4DFS
from kit.prefetch import data_of, tree

pytestmark = pytest.mark.first_pass

FILES = {f"{name}.bin": name.encode() * 100 for name in "abcde"}


@pytest.fixture
def run(release, licensee, tmp_path):
    """Run `verify` or `prefetch` on tmp_path/out; returns the completed process."""
    release.dataset("annotations", FILES)
    release.metadata(b"{}")

    def run(command: str, *words: str, answer: str = "", stdout: int | TextIO = subprocess.PIPE):
        where = ("-o", str(tmp_path / "out"), "--version", release.version)
        return subprocess.run(
            [*EGO4DFS, command, *where, *words],
            input=answer,
            stdout=stdout,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            timeout=60,
        )

    return run


def report(done) -> dict:
    return json.loads(done.stdout)


def test_files_that_no_run_selected_are_not_missing(run):
    run("prefetch", "-y", "--include", "a*", "--no-metadata")
    run("prefetch", "-y", "--include", "b*", "--no-metadata")
    done = run("verify", "--json")
    assert done.returncode == ExitCode.OK, done.stdout + done.stderr
    assert report(done)["files"]["right"] == 2
    assert run("verify", "--datasets", "annotations").stdout == "2 right\n"


def test_selected_files_are_missing_until_they_exist(run, tmp_path, release):
    run("prefetch", "-y", "--include", "[ab]*", "--no-metadata")
    directory = tmp_path / "out" / release.version / "annotations"
    (directory / "b.bin").unlink()
    done = run("verify", "--json")
    assert (done.returncode, report(done)["files"]["missing"]) == (ExitCode.FAILURE, 1)


def test_all_of_a_dataset_that_was_selected_as_a_whole_is_missing(run, tmp_path, release):
    """Also files that an interrupted run did not reach."""
    run("prefetch", "-y")
    state = tmp_path / "out/.ego4dfs"
    (state / "journal.sqlite").unlink()
    shutil.rmtree(tmp_path / "out" / release.version)
    done = run("verify", "--json", "--datasets", "annotations")
    assert report(done)["files"]["missing"] == len(FILES) + 1  # ego4d.json


def test_a_selection_on_the_command_line_is_used_as_given(run):
    run("prefetch", "-y", "--include", "a*", "--no-metadata")
    done = run("verify", "--include", "*", "--no-metadata", "--json")
    assert report(done)["files"]["missing"] == len(FILES) - 1


@pytest.fixture
def foreign(run, release, tmp_path):
    """Copies of another tool, without a journal."""
    run("prefetch", "-y", "--include", "[ab]*", "--no-metadata")
    shutil.rmtree(tmp_path / "out/.ego4dfs")
    return tmp_path / "out" / release.version / "annotations"


def test_without_a_known_selection_nothing_is_missing_and_a_message_says_so(run, foreign):
    done = run("verify")
    assert (done.returncode, done.stdout) == (ExitCode.OK, "2 right\n")
    assert "annotations: only existing files were checked" in done.stderr
    (foreign / "a.bin").write_bytes(b"")
    assert "1 damaged" in run("verify").stdout
    assert "3 missing" in run("verify", "--datasets", "annotations", "--no-metadata").stdout


def test_a_repair_shows_its_plan_and_fetches_only_when_agreed(run, tmp_path, release):
    run("prefetch", "-y", "--include", "[ab]*", "--no-metadata")
    before = tree(tmp_path / "out")
    (tmp_path / "out" / release.version / "annotations/b.bin").unlink()
    done = run("verify", "--repair")
    assert done.returncode == ExitCode.USAGE
    assert "1 file to fetch, 100 B" in done.stdout
    assert "hint: use -y to fetch without asking" in done.stderr
    done = run("verify", "--repair", answer="n\n")
    assert done.returncode == ExitCode.FAILURE
    assert set(data_of(tree(tmp_path / "out"), release, "annotations")) == {"a.bin"}
    done = run("verify", "--repair", answer="y\n")
    assert done.returncode == ExitCode.OK, done.stderr
    assert tree(tmp_path / "out") == before


def test_files_fetched_before_selections_were_recorded_can_be_missing(run, tmp_path, release):
    run("prefetch", "-y")
    out = tmp_path / "out"
    for name in (".ego4dfs/selections.json", "ego4d.json", f"{release.version}/ego4d.json"):
        (out / name).unlink()
    (out / release.version / "annotations/a.bin").unlink()
    done = run("verify", "--json")
    assert {problem["path"] for problem in report(done)["problems"]} == {
        f"{release.version}/{name}" for name in ("ego4d.json", "annotations/a.bin")
    }


def test_a_repair_continues_after_its_output_is_closed(run, tmp_path, release):
    run("prefetch", "-y", "--no-metadata")
    path = tmp_path / "out" / release.version / "annotations/b.bin"
    path.unlink()
    with open("/dev/full", "w") as full:
        done = run("verify", "--repair", "-y", "--no-metadata", stdout=full)
    assert done.returncode == ExitCode.OK, done.stderr
    assert path.read_bytes() == FILES["b.bin"]


@pytest.mark.parametrize(
    "content",
    [
        b"\0" * 100,
        b"[1]",
        b'{"v1": {"x": 3}}',
        b'{"v1": {"x": [1, "a"]}}',
        b"[" * 100_000,
    ],
)
def test_a_damaged_record_of_selections_counts_as_none(run, tmp_path, content):
    run("prefetch", "-y", "--include", "a*", "--no-metadata")
    path = tmp_path / "out/.ego4dfs/selections.json"
    path.write_bytes(content)
    done = run("verify")
    assert done.returncode == ExitCode.OK
    assert f"{path} cannot be read" in done.stderr
    run("prefetch", "-y", "--include", "a*", "--no-metadata")
    assert json.loads(path.read_text())


@pytest.mark.fault(
    area="disk",
    fault="a dataset's directory is a link to another disk",
    face="verify",
    sees="it is followed; directories that are not checked are named",
    deadline="at once",
)
def test_a_linked_dataset_is_verified(run, tmp_path, release):
    run("prefetch", "-y")
    directory = tmp_path / "out" / release.version / "annotations"
    elsewhere = tmp_path / "disk"
    shutil.move(directory, elsewhere)
    directory.symlink_to(elsewhere)
    (directory.parent / "loop").symlink_to(directory.parent)
    assert run("verify").stdout == f"{len(FILES) + 1} right\n"
    (elsewhere / "a.bin").write_bytes(b"cut")
    assert run("verify").returncode == ExitCode.FAILURE


def test_a_dataset_that_is_refused_stops_no_others(run, release, tmp_path):
    run("prefetch", "-y")
    gone = tmp_path / "out" / release.version / "fut_loc"
    gone.mkdir()
    (gone / "manifest.csv").write_text("uid")
    done = run("verify")
    assert done.returncode == ExitCode.PARTIAL
    assert done.stdout == f"{len(FILES) + 1} right\n"
    assert "dataset fut_loc is refused" in done.stderr
    assert "ego4dfs: fut_loc was not checked" in done.stderr
    assert run("verify", "--datasets", "annotations", "fut_loc").returncode == ExitCode.REFUSED


def test_directories_that_are_not_checked_are_named(run, tmp_path, release):
    run("prefetch", "-y")
    version = tmp_path / "out" / release.version
    (version / "mine").mkdir()
    (version / "mine/file").write_text("x")
    (version / "clips").symlink_to(tmp_path / "gone")
    done = run("verify")
    shown = f"ego4dfs: {release.version}"
    assert f"{shown}/mine was not checked: it has no manifest.csv" in done.stderr
    assert f"{shown}/clips was not checked: a link to a missing file" in done.stderr


def test_an_unreadable_directory_is_named_and_a_hidden_one_is_ignored(tmp_path, monkeypatch):
    layout = Layout(tmp_path, "v2")
    for name in ("clips", "imu", "clips/.ego4dfs"):
        layout.dataset(name).mkdir(parents=True)
        (layout.dataset(name) / "manifest.csv").write_text("uid")
    scan = os.scandir

    def refuse(path):
        if str(path).endswith("/imu"):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)
    datasets, skipped, unreadable = datasets_below(layout)
    assert (datasets, skipped, list(unreadable)) == (("clips",), {}, ["imu"])
    assert unreadable["imu"].errno == errno.EACCES


@pytest.mark.parametrize(("hidden", "code"), [("fut_loc", 3), ("annotations", 1)])
def test_an_unreadable_directory_is_not_a_success(
    run, release, tmp_path, monkeypatch, capsys, hidden, code
):
    """If another one is readable the check is partial; otherwise it fails."""
    run("prefetch", "-y")
    (tmp_path / "out" / release.version / "fut_loc").mkdir()
    scan = os.scandir

    def refuse(path):
        if str(path).endswith(f"/{hidden}"):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)
    where = ("-o", str(tmp_path / "out"), "--version", release.version)
    assert main(["verify", "--offline", *where]) == code
    assert f"{hidden} was not checked: permission denied" in capsys.readouterr().err


def test_a_directory_of_the_user_does_not_end_the_check(run, release, tmp_path):
    """It looks like a dataset, but no release has one of this name."""
    run("prefetch", "-y")
    mine = tmp_path / "out" / release.version / "my_features"
    mine.mkdir()
    (mine / "manifest.csv").write_text("uid")
    done = run("verify")
    assert (done.returncode, done.stdout) == (ExitCode.OK, f"{len(FILES) + 1} right\n")
    assert "my_features was not checked" in done.stderr
    assert run("verify", "--datasets", "annotations", "my_features").returncode == ExitCode.USAGE
