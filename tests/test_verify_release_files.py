"""`ego4dfs verify` misses nothing that `prefetch` wrote: no dataset, and no name of ego4d.json."""

from __future__ import annotations

import errno
import json
import os
import shutil
from unittest.mock import Mock

import pytest

from ego4dfs.cli.output import ExitCode
from ego4dfs.cli.verify_release_files import root_findings
from ego4dfs.copies import Layout
from ego4dfs.verify import Finding, Verdict
from kit.prefetch import tree

METADATA = b'{"videos": []}'
HOW = pytest.mark.parametrize("how", [(), ("--offline",)], ids=["online", "offline"])


@pytest.fixture
def run(release, licensee, cli, tmp_path):
    """Run `prefetch` or `verify --json` on tmp_path/out; returns exit code and report."""
    release.dataset("annotations", {"a.bin": b"a" * 100, "b.bin": b"b" * 100})
    release.dataset("imu", {"c.bin": b"c" * 100})
    release.metadata(METADATA)

    def run(command: str, *words: str):
        where = ("-o", str(tmp_path / "out"), "--version", release.version, "--json")
        done = cli(command, *where, *words, check=False)
        assert "Traceback" not in done.stderr
        return done.returncode, json.loads(done.stdout)

    assert run("prefetch", "-y", "--datasets", "annotations", "imu")[0] == ExitCode.OK
    return run


@pytest.fixture
def out(run, tmp_path, release):
    """The directory of the copies, and that of the version in it."""
    return tmp_path / "out", tmp_path / "out" / release.version


def contents(root) -> dict[str, object]:
    """Return all files; the rows of a manifest.ver are in the order in which files were fetched."""
    return {
        path: sorted(data.splitlines()) if path.endswith("manifest.ver") else data
        for path, data in tree(root).items()
    }


def problems(report) -> dict[str, str]:
    return {one["path"]: one["verdict"] for one in report["problems"]}


@HOW
def test_a_selected_dataset_without_its_directory_is_missing(run, out, release, how):
    """Otherwise the files of the other datasets are right, and the loss is not reported."""
    root, version = out
    before = contents(root)
    shutil.rmtree(version / "annotations")
    code, report = run("verify", *how)
    lost = [f"{release.version}/annotations/{name}.bin" for name in "ab"]
    assert (code, problems(report)) == (ExitCode.FAILURE, dict.fromkeys(lost, "missing"))
    assert run("verify", "--repair", "-y")[0] == ExitCode.OK
    assert contents(root) == before


@HOW
def test_a_selected_dataset_without_its_manifest_is_checked(run, out, release, how):
    root, version = out
    before = contents(root)
    (version / "annotations/manifest.csv").unlink()
    (version / "annotations/a.bin").unlink()
    code, report = run("verify", *how)
    lost = {f"{release.version}/annotations/a.bin": "missing"}
    assert (code, problems(report)) == (ExitCode.FAILURE, lost)
    assert run("verify", "--repair", "-y")[0] == ExitCode.OK
    assert contents(root) == before


def test_all_directories_can_be_gone(run, out):
    root, version = out
    before = contents(root)
    shutil.rmtree(version)
    assert run("verify")[0] == ExitCode.FAILURE
    assert run("verify", "--repair", "-y")[0] == ExitCode.OK
    assert contents(root) == before


@HOW
@pytest.mark.parametrize("content", [None, b'{"videos": 1 }'], ids=["missing", "other"])
def test_the_metadata_of_the_root_is_checked(run, out, how, content):
    """Programs read it there; after some copies it is not the same file as that of the version."""
    root, version = out
    (root / "ego4d.json").unlink()
    if content is not None:
        (root / "ego4d.json").write_bytes(content)
    code, report = run("verify", *how)
    verdict = "damaged" if content else "missing"
    assert (code, problems(report)) == (ExitCode.FAILURE, {"ego4d.json": verdict})
    code, report = run("verify", "--repair", "-y")
    assert (code, report["repaired"]) == (ExitCode.OK, 1)
    assert (root / "ego4d.json").samefile(version / "ego4d.json")


@HOW
def test_damaged_metadata_is_found_and_repaired_under_both_names(run, out, release, how):
    """They are one file, and the repair makes a new one."""
    root, version = out
    (version / "ego4d.json").write_bytes(METADATA[:-1])
    code, report = run("verify", *how)
    damaged = {f"{release.version}/ego4d.json": "damaged"}
    assert (code, problems(report)) == (ExitCode.FAILURE, damaged)
    assert run("verify", "--repair", "-y")[0] == ExitCode.OK
    assert (root / "ego4d.json").read_bytes() == METADATA


@HOW
@pytest.mark.parametrize("names", [("v1/ego4d.json", "ego4d.json"), ("ego4d.json",)])
def test_the_metadata_of_the_root_may_be_that_of_another_version(run, out, how, names):
    """It is that of the version which was downloaded last; the official tool writes only this."""
    root, _ = out
    (root / "v1").mkdir()
    (root / "ego4d.json").unlink()
    for name in names:
        (root / name).write_bytes(b"of v1")
    assert run("verify", *how)[0] == ExitCode.OK
    assert run("verify", "--repair", "-y")[0] == ExitCode.OK
    assert (root / "ego4d.json").read_bytes() == b"of v1"


@HOW
def test_without_metadata_none_is_checked(run, out, how):
    root, version = out
    for directory in out:
        (directory / "ego4d.json").unlink()
    assert run("verify", "--no-metadata", *how)[0] == ExitCode.OK
    assert not (root / "ego4d.json").exists()
    assert not (version / "ego4d.json").exists()


def test_metadata_that_cannot_be_written_is_still_damaged(run, out):
    root, _ = out
    (root / "ego4d.json").unlink()
    (root / "ego4d.json").mkdir()
    code, report = run("verify", "--repair", "-y")
    assert (code, problems(report)) == (ExitCode.FAILURE, {"ego4d.json": "damaged"})


def test_metadata_that_cannot_be_read_is_damaged(tmp_path, monkeypatch):
    """The other files are still reported."""
    layout = Layout(tmp_path, "v2")
    layout.metadata.parent.mkdir()
    for path in (layout.metadata, tmp_path / "ego4d.json"):
        path.write_bytes(METADATA)
    fine = [Finding("v2/ego4d.json", Verdict.RIGHT)]
    assert root_findings(layout, fine) == []
    refused = Mock(side_effect=PermissionError(errno.EACCES, os.strerror(errno.EACCES)))
    monkeypatch.setattr("filecmp.cmp", refused)
    [found] = root_findings(layout, fine)
    assert (found.path, found.verdict) == ("ego4d.json", Verdict.DAMAGED)
    assert "cannot be read: " in found.reason
    assert "ermission denied" in found.reason
