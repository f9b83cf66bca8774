"""Faults 17 to 23, 25, 26 and 31 of the official tool: flags, names, keys and records."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ego4dfs.config import resolve
from kit.cli import run_cli
from kit.official import objects_read
from kit.prefetch import data_of, tree

pytestmark = pytest.mark.first_pass

UID = "00000001-0000-4000-8000-000000000000"


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


def manifest_of(release, dataset: str, header: str, rows: dict[str, str]) -> None:
    """Publish files by name, each with the cells after its location."""
    lines = [f"video_uid,type,s3_path,{header}"]
    for name, cells in rows.items():
        url = release.put(f"{dataset}/{name}", name.encode())
        lines.append(f"{name.partition('.')[0]},file,{url},{cells}")
    release.manifest(dataset, "\n".join([*lines, ""]))


def test_fault_17_the_flags_of_the_documentation_are_flags(prefetch, official, release, out):
    """The README's --dataset, --benchmark and --config work there as prefixes, by luck."""
    manifest_of(release, "clips", "benchmarks", {f"{UID}.mp4": "[EM]"})
    assert "ambiguous" in official("--video_uid", UID).stderr
    config = out.parent / "config.json"
    config.write_text(json.dumps({"metadata": False, "assume_yes": True}))
    words = ("--dataset", "clips", "--benchmark", "EM", "--config", str(config))
    prefetch(*words, "--video_uid", UID)
    assert [*data_of(tree(out), release, "clips")] == [f"{UID}.mp4"]
    # Of the documentation, and in neither tool: here the message says what does it.
    assert "unrecognized arguments: --raw_components" in official("--raw_components").stderr
    assert "--datasets components/videos" in prefetch("--raw_components", code=2).stderr


def test_fault_18_the_config_file_is_checked(prefetch, official, release, out, tmp_path):
    """The official tool ends with TypeError for an unknown key, and splits a text into letters."""
    release.dataset("viz", {"a.jpg": b"a"})
    config = tmp_path / "config.json"
    config.write_text(json.dumps({"datasets": "viz"}))
    wrong = official("-y", "--no-metadata", "--config_path", str(config))
    assert "'v'" in wrong.stdout
    done = prefetch("-y", "--no-metadata", "--config_path", str(config), code=2)
    assert "expected a list, got 'viz'" in done.stderr
    config.write_text(json.dumps({"datasets": ["viz"]}))
    prefetch("-y", "--no-metadata", "--config_path", str(config))
    assert [*data_of(tree(out), release, "viz")] == ["a.jpg"]
    config.write_text(json.dumps({"colour": "blue"}))
    assert "TypeError" in official("-y", "--config_path", str(config)).stderr
    done = prefetch("-y", "--config_path", str(config), code=2)
    assert "colour" in done.stderr


def test_fault_19_annotations_are_chosen_and_the_default_is_documented(
    prefetch, official, release, out
):
    """The official tool accepts --annotations nlq, but fetches all of them."""
    manifest_of(release, "annotations", "annotation", {"nlq_val.json": "nlq", "vq.json": "vq"})
    official("-y", "--no-metadata", "--annotations", "nlq")
    assert len(data_of(tree(out.parent / "official"), release, "annotations")) == 2
    done = prefetch("-y", "--no-metadata", "--annotations", "nlq")
    assert [*data_of(tree(out), release, "annotations")] == ["nlq_val.json"]
    assert "No --datasets given: fetching annotations" in done.stdout


def test_fault_20_keys_of_the_environment_are_enough(prefetch, official, release, out, tmp_path):
    """The official tool requires a profile `default`, even with keys in the environment."""
    release.dataset("annotations", {"a.json": b"a"})
    (tmp_path / "home/.aws/credentials").unlink()
    assert "Could not find AWS profile" in official("-y", "--no-metadata").stderr
    prefetch("-y", "--no-metadata")
    assert data_of(tree(out), release, "annotations") == {"a.json": b"a"}


def test_fault_21_a_missing_manifest_is_explained(prefetch, official, release):
    """The official tool ends with a bare traceback for a typo as for an expired key."""
    release.metadata(b"{}")
    flags = ("-y", "--no-metadata", "--datasets", "full_scales")
    assert "Traceback" in official(*flags).stderr
    done = prefetch(*flags, code=2)
    assert "full_scales" in done.stderr
    assert "did you mean full_scale?" in done.stderr


@pytest.mark.parametrize(
    "dataset", ["fut_loc", "omnivore_video_swinl", "nlq_models", "annotations_540ss"]
)
def test_fault_22_published_names_are_known(dataset, caplog):
    """The official tool calls datasets of its own README non-standard."""
    code = (
        f"from ego4d.cli.config import *; config_from_args(['-o', 'x', '--datasets', {dataset!r}])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "Non-standard Dataset" in done.stdout
    assert resolve({"datasets": [dataset]}).datasets == (dataset,)
    assert not caplog.records


def test_fault_23_the_list_needs_neither_keys_nor_a_network(tmp_path):
    """The official --list-datasets ends with a traceback without both."""
    env = {name: os.environ[name] for name in ("PATH",)} | {"HOME": str(tmp_path)}
    done = run_cli("prefetch", "--list-datasets", env=env)
    assert "full_scale" in done.stdout
    command = [sys.executable, "-m", "ego4d.cli.cli", "--list-datasets"]
    wrong = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert wrong.returncode == 1


def test_fault_25_a_benchmark_without_brackets_counts(prefetch, official, release, out):
    """The official tool skips such rows, and ignores the filter without the column."""
    rows = {"a.json": "em", "b.json": "[FHO |EM]", "c.json": "[AV]"}
    manifest_of(release, "annotations", "benchmarks", rows)
    flags = ("-y", "--no-metadata", "--benchmarks", "EM")
    official(*flags)
    assert [*data_of(tree(out.parent / "official"), release, "annotations")] == ["b.json"]
    done = prefetch(*flags)
    assert [*data_of(tree(out), release, "annotations")] == ["a.json", "b.json"]
    assert done.stderr.count("rackets") <= 1


def test_fault_25_benchmarks_without_a_column_are_those_of_the_recordings(
    prefetch, official, release, out
):
    """Without the column the official tool ignores the filter, and fetches all of the dataset."""
    video, other = UID, UID.replace("1", "2")
    clip, cut = (uid.replace("0000-4000", "0000-4c11") for uid in (video, other))
    manifest_of(
        release, "full_scale", "benchmarks", {f"{video}.mp4": "[FHO]", f"{other}.mp4": "[AV]"}
    )
    rows = {f"{clip}.mp4": f"[FHO],{other}", f"{cut}.mp4": f"[AV],{other}"}
    manifest_of(release, "clips", "benchmarks,parent_video_uid", rows)
    manifest_of(release, "imu", "x", {f"{video}.csv": "", f"{other}.csv": ""})
    manifest_of(release, "clip_256ss", "x", {f"{clip}.mp4": "", f"{cut}.mp4": ""})
    manifest_of(release, "sta_models", "x", {"00000009-0000-4000-8000-00000000000a.pth": ""})
    names = ("imu", "clip_256ss", "sta_models")
    flags = ("-y", "--no-metadata", "--benchmarks", "FHO", "--datasets")
    official(*flags, *names)
    found = tree(out.parent / "official")
    assert [len(data_of(found, release, name)) for name in names] == [2, 2, 1]
    done = prefetch(*flags, *names)
    assert "has no benchmarks column" in done.stderr
    found = tree(out)
    assert [*data_of(found, release, "imu")] == [f"{video}.csv"]
    assert [*data_of(found, release, "clip_256ss")] == [f"{clip}.mp4"]
    assert len(data_of(found, release, "sta_models")) == 1  # ids that name no recording


def test_fault_26_universities_are_those_of_the_video_too(prefetch, official, release, out):
    """The official tool uses the bucket only, and has no university for some buckets."""
    manifest_of(release, "annotations", "video_source", {"a.json": "unict", "b.json": "cmu"})
    flags = ("-y", "--no-metadata", "--universities", "unict")
    assert "All S3 Objects Invalid" in official(*flags).stdout
    prefetch(*flags)
    assert [*data_of(tree(out), release, "annotations")] == ["a.json"]


def test_fault_31_cached_files_need_no_network(prefetch, official, release, front, out):
    """The official tool fetches each manifest again, and warns about each unusual file name."""
    release.dataset("annotations", {"a.odd": b"a"})
    prefetch("-y", "--no-metadata")
    front.reset()
    done = prefetch("-y", "--no-metadata")
    assert [status for method, _, status in front.log if method == "GET"] == [304]
    assert objects_read(front) == []
    assert "odd" not in done.stderr
    front.stop()
    assert "already exist" in prefetch("-y", "--no-metadata").stdout
