"""Every command reports a selection that matches nothing, and suggests what was meant."""

from __future__ import annotations

import logging

import pytest

import ego4dfs
from ego4dfs import cli
from ego4dfs.config import resolve
from ego4dfs.errors import ConfigError
from ego4dfs.vfs import open_vfs
from kit.cli import run_cli
from kit.mirrors import BUCKET, UIDS

pytestmark = pytest.mark.first_pass

TYPOS = {
    "--benchmarks": ("FOH", "--benchmarks: no row has FOH; did you mean FHO?"),
    "--annotations": ("nlqq", "--annotations: no row has nlqq; did you mean nlq?"),
    "--include": ("*.cvs", "--include: no name matches *.cvs"),
}


def warnings_of(caplog) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]


@pytest.mark.fault(
    area="input",
    fault="a filter that matches no row of the named datasets",
    face="ls, prefetch, verify, doctor, cache",
    sees="exit code 2, with the name that was probably meant",
    deadline="at once",
)
@pytest.mark.parametrize(
    "command",
    [
        ("ls",),
        ("prefetch", "-y", "-o", "{out}"),
        ("prefetch", "--dry-run", "-o", "{out}"),
        ("prefetch", "-y", "--to", "cache"),
        ("cache", "unpin"),
        ("verify", "-o", "{out}"),
        ("doctor",),
    ],
    ids=" ".join,
)
@pytest.mark.parametrize("option", TYPOS)
def test_each_command_refuses_a_selection_without_matches(
    options, command, option, capsys, tmp_path
):
    (tmp_path / "v2/annotations").mkdir(parents=True)
    word, meant = TYPOS[option]
    words = [part.format(out=tmp_path) for part in command]
    assert cli.main([*words, "--datasets", "annotations", option, word]) == 2
    shown = capsys.readouterr()
    text = shown.out if command == ("doctor",) else shown.err
    assert "0 of 2 rows of annotations match this selection" in text
    assert meant in text


@pytest.mark.fuse
@pytest.mark.fault(
    area="input",
    fault="a filter that matches no row of the named datasets",
    face="mount",
    sees="not mounted, exit code 2, with the name that was probably meant",
    deadline="at once",
)
def test_a_mount_refuses_a_selection_without_matches(options, tmp_path, libfuse):
    (tmp_path / "mp").mkdir()
    words = ("--datasets", "annotations", "--benchmarks", "FOH", "--libfuse", libfuse)
    done = run_cli("mount", str(tmp_path / "mp"), *words, check=False)
    assert done.returncode == 2
    assert "hint: --benchmarks: no row has FOH; did you mean FHO?" in done.stderr


@pytest.mark.fuse
def test_a_mount_in_the_background_prints_what_it_warns_of(options, tmp_path, libfuse):
    (tmp_path / "mp").mkdir()
    words = ("--datasets", "annotations", "clips", "--annotations", "nlqq", "nlq")
    done = run_cli("mount", str(tmp_path / "mp"), "--libfuse", libfuse, *words)
    run_cli("unmount", str(tmp_path / "mp"))
    assert done.stderr == "ego4dfs: warning: --annotations: no row has nlqq; did you mean nlq?\n"


@pytest.mark.fault(
    area="input",
    fault="a filter that matches no row of the named datasets",
    face="ego4d://",
    sees="an empty tree and a warning in Python's logging",
    deadline="at once",
)
def test_a_filesystem_warns(options, caplog):
    fs = ego4dfs.Ego4DFileSystem(**options, datasets=["annotations"], benchmarks=["FOH"])
    assert fs.ls("v2/annotations", detail=False) == ["v2/annotations/manifest.csv"]
    assert "0 of 2 rows of annotations match this selection" in warnings_of(caplog)[-1]
    fs.close()


def test_a_dataset_that_matches_nothing_beside_others_is_a_warning(options, caplog, capsys):
    assert cli.main(["ls", "--datasets", "annotations", "clips", "--include", "clips-*"]) == 0
    assert "0 of 2 rows of annotations match this selection" in warnings_of(caplog)


def test_one_word_of_several_that_matches_nothing_is_a_warning(options, caplog):
    assert cli.main(["ls", "--datasets", "clips", "--benchmarks", "FHO", "EMM"]) == 0
    assert warnings_of(caplog) == ["--benchmarks: no row has EMM; did you mean EM?"]


def test_a_valid_selection_has_no_warning_and_no_request_for_cached_manifests(options, caplog):
    config = resolve({**options, "datasets": ["annotations"], "include": ["a*.csv"]})
    open_vfs(config).close()
    vfs = open_vfs(config)
    assert vfs.status()["requests"] == {"head": 0, "get": 0, "manifest": 0}
    vfs.close()
    assert warnings_of(caplog) == []


def test_without_datasets_unknown_benchmarks_are_refused(options):
    with pytest.raises(ConfigError, match="--benchmarks: no row has FOH"):
        open_vfs(resolve({**options, "benchmarks": ["FOH"]}))


def test_without_datasets_a_directory_warns_on_entry_that_nothing_matches(options, caplog):
    vfs = open_vfs(resolve({**options, "include": ["full*"]}))
    assert warnings_of(caplog) == []
    assert [entry.name for entry in vfs.listdir("v2/clips")] == ["manifest.csv"]
    assert warnings_of(caplog) == ["0 of 2 rows of clips match this selection"]
    vfs.close()


def test_an_old_cached_manifest_causes_no_refusal(options, mirror):
    config = resolve({**options, "datasets": ["clips"], "include": ["new.csv"]})
    with pytest.raises(ConfigError):
        open_vfs(config)
    path = mirror / BUCKET / "public/v2/clips/manifest.csv"
    before = path.read_text()
    url = f"s3://{BUCKET}/public/v2/o/new.csv"
    path.write_text(f"{before}{UIDS[0]},file,{url},[FHO],train\n")
    try:
        vfs = open_vfs(config)
        assert "new.csv" in [entry.name for entry in vfs.listdir("v2/clips")]
        vfs.close()
    finally:
        path.write_text(before)
