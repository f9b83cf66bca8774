"""Faults 1 to 10 of the official tool: its records, and how it applies a selection."""

from __future__ import annotations

import shutil
import uuid
from pathlib import Path

import pytest

from kit.official import objects_read
from kit.prefetch import data_of, tree

pytestmark = pytest.mark.first_pass

UIDS = [f"{number:08x}-0000-4000-8000-000000000000" for number in range(4)]


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


def tagged(release, dataset: str, names: dict[str, str], suffix: str = ".pt") -> None:
    """Publish files by uid with their benchmarks cell."""
    lines = ["video_uid,type,s3_path,benchmarks"]
    for uid, cell in names.items():
        url = release.put(f"{dataset}/{uid}{suffix}", f"{dataset} {uid}".encode())
        lines.append(f"{uid},file,{url},{cell}")
    release.manifest(dataset, "\n".join([*lines, ""]))


def test_fault_01_each_dataset_has_its_own_record(prefetch, official, release, out, front):
    """The official tool writes the rows of all datasets into the manifest.ver of one of them."""
    release.dataset("annotations", {"a.json": b"a"})
    release.dataset("viz", {"b.jpg": b"b"})
    flags = ("-y", "--no-metadata", "--datasets", "annotations", "viz")
    official(*flags)
    assert len(list((out.parent / "official").rglob("manifest.ver"))) == 1
    prefetch(*flags)
    for dataset, name in (("annotations", "a.json"), ("viz", "b.jpg")):
        rows = (out / release.version / dataset / "manifest.ver").read_text().splitlines()
        assert len(rows) == 2
        assert rows[1].startswith(name[0])
    front.reset()
    for dataset in ("annotations", "viz"):
        prefetch(*flags[:2], "--datasets", dataset)
    assert objects_read(front) == []


def test_fault_02_objects_without_versions_are_fetched_once(
    prefetch, official, release, out, front
):
    """The official tool reads "" where it wrote None, and fetches all again in every run."""
    release.dataset("annotations", {"a.json": b"a"})
    official("-y", "--no-metadata")
    assert "mismatched s3 object version" in official("-y", "--no-metadata").stdout
    prefetch("-y", "--no-metadata")
    shutil.rmtree(out / ".ego4dfs")  # even where only the official record is left
    front.reset()
    prefetch("-y", "--no-metadata")
    assert objects_read(front) == []


def test_fault_03_yes_works_with_skip_s3_checks(prefetch, official, release, out):
    """The official tool ends with UnboundLocalError and fetches nothing."""
    release.dataset("annotations", {"a.json": b"a"})
    flags = ("-y", "--skip-s3-checks", "--no-metadata")
    assert "UnboundLocalError" in official(*flags).stderr
    prefetch(*flags)
    assert data_of(tree(out), release, "annotations") == {"a.json": b"a"}
    release.dataset("viz", {"b.jpg": b"b" * 2048})
    output = prefetch("-y", "--no-metadata", "--datasets", "viz").stdout
    assert "1 file to fetch, 2.0 KiB" in output  # and -y prints count and size


def test_fault_04_a_failure_is_an_exit_code_and_a_command(prefetch, official, release, out, front):
    """The official tool only logs files that failed, and ends with 0."""
    release.dataset("annotations", {"a.json": b"a", "broken.json": b"b" * 5000})
    front.faults.cut_body_at, front.faults.only = 100, "broken.json"
    wrong = official("-y", "--no-metadata")
    assert [*data_of(tree(out.parent / "official"), release, "annotations")] == ["a.json"]
    assert wrong.returncode == 0, "which is what is wrong"
    done = prefetch("-y", "--no-metadata", code=3)
    assert "failed  " in done.stderr
    retry = done.stderr.splitlines()[-1].strip()
    assert retry.startswith("ego4dfs prefetch")
    assert "--include broken.json" in retry


def test_fault_05_a_run_with_only_missing_objects_fails(prefetch, official, release, out):
    """The official tool reports success when all objects are missing or empty."""
    release.manifest("annotations", f"video_uid,type,s3_path\nu,file,{release.url('no.json')}\n")
    wrong = official("-y", "--no-metadata")
    assert (wrong.returncode, "already exist" in wrong.stdout) == (0, True)
    done = prefetch("-y", "--no-metadata", code=4)
    assert "already exist" not in done.stdout
    assert "no.json" in done.stderr
    release.dataset("viz", {"empty.jpg": b""})
    assert "already exist" in official("-y", "--no-metadata", "--datasets", "viz").stdout
    assert "already exist" not in prefetch("-y", "--no-metadata", "--datasets", "viz").stdout
    assert data_of(tree(out), release, "viz") == {"empty.jpg": b""}


def test_fault_06_filters_that_match_no_row_are_named(prefetch, official, release):
    """The official tool says "All S3 Objects Invalid" and ends with 0."""
    tagged(release, "annotations", {UIDS[0]: "[FHO]"})
    flags = ("-y", "--no-metadata", "--benchmarks", "nlq")
    assert "ABORT: All S3 Objects Invalid" in official(*flags).stdout
    done = prefetch(*flags, code=2)
    assert "0 of 1 rows of annotations match" in done.stderr


def test_fault_07_uids_select_in_every_dataset(prefetch, official, release, out):
    """The official tool applies --video_uids to four datasets only, and fetches all of others."""
    dataset = "slowfast8x8_r101_k400"
    tagged(release, dataset, dict.fromkeys(UIDS, "[EM]"))
    flags = ("-y", "--no-metadata", "--datasets", dataset, "--video_uids", UIDS[1])
    wrong = official(*flags)
    assert "{[x.uid for x in matches]}" in wrong.stdout
    assert len(data_of(tree(out.parent / "official"), release, dataset)) == len(UIDS)
    prefetch(*flags)
    assert [*data_of(tree(out), release, dataset)] == [f"{UIDS[1]}.pt"]


def test_fault_08_an_unknown_uid_is_reported_and_may_be_ignored(prefetch, official, release, out):
    """The official tool refuses the run for one unknown uid, and for one in upper case."""
    tagged(release, "clips", {UIDS[2]: "[EM]", "abcdef00-0000-4000-8000-000000000000": ""})
    known, unknown = "ABCDEF00-0000-4000-8000-000000000000", str(uuid.UUID(int=5))
    flags = ("-y", "--no-metadata", "--datasets", "clips", "--video_uids", known)
    assert "{cfg.video_uids}" in official(*flags).stderr
    assert unknown in prefetch(*flags, unknown, code=2).stderr
    prefetch(*flags, unknown, "--allow-missing")
    assert [*data_of(tree(out), release, "clips")] == [f"{known.lower()}.pt"]


def test_fault_09_two_objects_of_one_name_are_two_files(prefetch, official, release, out):
    """The official tool drops the directories of keys, and one file overwrites the other."""
    one, other = release.put("a/scan.tar", b"first"), release.put("b/scan.tar", b"second")
    rows = f"{UIDS[0]},file,{one}\n{UIDS[1]},file,{other}\n"
    release.manifest("3d_scans", f"video_uid,type,s3_path\n{rows}")
    flags = ("-y", "--no-metadata", "--datasets", "3d_scans")
    official(*flags)
    assert len(data_of(tree(out.parent / "official"), release, "3d_scans")) == 1
    prefetch(*flags)
    found = data_of(tree(out), release, "3d_scans")
    assert sorted(found.values()) == [b"first", b"second"]


def test_fault_10_files_of_the_same_stem_are_kept(prefetch, official, release, out):
    """The official tool deletes `<stem>.*`, a user's own files too, before it fetches."""
    release.dataset("annotations", {"u.mp4": b"new"})
    for root, run in ((out, prefetch), (out.parent / "official", official)):
        directory = root / release.version / "annotations"
        directory.mkdir(parents=True)
        (directory / "u.wav").write_bytes(b"my own")
        run("-y", "--no-metadata")
        assert (directory / "u.mp4").read_bytes() == b"new"
        assert (directory / "u.wav").exists() == (root == out)
    release.dataset("av_models", {"model.json": b"{}", "model.csv": b"a,b\n"})
    prefetch("-y", "--no-metadata", "--datasets", "av_models")
    assert len(data_of(tree(out), release, "av_models")) == 2
