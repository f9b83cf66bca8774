"""Faults 11 to 16, 24 and 27 to 30 of the official tool: fetching files, and its reports."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from ego4dfs.cli import main
from ego4dfs.copies import Journal, Layout
from kit.cli import EGO4DFS, run_cli
from kit.data import MIB, seeded
from kit.official import objects_read
from kit.prefetch import data_of, tree
from kit.processes import wait_until
from kit.server import SHARING

LARGE = 24 * MIB


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


def versioned(release, content: bytes) -> None:
    """Publish annotations/a.json in a bucket with versions, as Ego4D's are."""
    release.server.create_bucket("ego4d-versioned", versioned=True)
    release.server.put("ego4d-versioned", f"{release.version}/a.json", content)
    row = f"a,file,s3://ego4d-versioned/{release.version}/a.json"
    release.manifest("annotations", f"video_uid,type,s3_path\n{row}\n")


def test_fault_11_an_interrupted_refresh_keeps_the_old_file_and_the_new_bytes(
    prefetch, release, front, out, spawn
):
    """The official tool deletes the old file first, and starts again with another name."""
    old, new = seeded("old", LARGE), seeded("new", LARGE + 1)
    release.dataset("annotations", {"a.mp4": old})
    prefetch("-y", "--no-metadata")
    release.dataset("annotations", {"a.mp4": new})
    for memory in (out / ".ego4dfs", Path(os.environ["EGO4DFS_CACHE_DIR"])):
        shutil.rmtree(memory)  # as if the copy came from another machine
    front.faults.piece_bytes, front.faults.bytes_per_s = 64 << 10, 2.0 * MIB
    front.bytes_sent = 0
    command = [*EGO4DFS, "prefetch", "-y", "--no-metadata", "-o", str(out)]
    process = spawn(
        [*command, "--version", release.version], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    wait_until(lambda: front.bytes_sent > LARGE // 2)
    process.kill()
    process.communicate()
    assert (out / release.version / "annotations/a.mp4").read_bytes() == old
    front.faults.bytes_per_s = 0
    prefetch("-y", "--no-metadata")
    assert data_of(tree(out), release, "annotations") == {"a.mp4": new}
    assert front.bytes_sent < 1.3 * LARGE


def test_fault_12_a_copy_is_checked_by_more_than_its_size(prefetch, official, release, out):
    """The official tool compares sizes only, and accepts changed bytes."""
    versioned(release, b"right")
    for run, root in ((official, out.parent / "official"), (prefetch, out)):
        run("-y", "--no-metadata")
        path = root / release.version / "annotations/a.json"
        path.write_bytes(b"wrong")  # long after it was published
        os.utime(path, (time.time() + 60, time.time() + 60))
        output = run("-y", "--no-metadata").stdout
        is_ours = root == out
        found = data_of(tree(root), release, "annotations")
        assert found == {"a.json": b"right" if is_ours else b"wrong"}
        assert ("already exist" in output) is not is_ours


def test_fault_12_bytes_changed_by_the_disk_are_found(prefetch, official, release, out):
    """The official tool compares no bytes, and here size and time are unchanged."""
    versioned(release, b"right")
    official("-y", "--no-metadata")
    prefetch("-y", "--no-metadata", "-o", str(out.parent / "official"))
    path = out.parent / "official" / release.version / "annotations/a.json"
    date = path.stat().st_mtime_ns
    path.write_bytes(b"wrong")
    os.utime(path, ns=(date, date))
    assert official("-y", "--no-metadata").returncode == 0
    assert path.read_bytes() == b"wrong"
    flags = ("--version", release.version, "--datasets", "annotations", "--no-metadata")
    where = ("-o", str(out.parent / "official"))
    done = run_cli("verify", *where, *flags, check=False)
    assert done.returncode == 1
    assert "a.json" in done.stdout
    run_cli("verify", *where, *flags, "--repair", "-y")
    assert path.read_bytes() == b"right"


def test_fault_13_an_error_of_one_request_does_not_stop_the_run(prefetch, release, front, out):
    """The official tool ends with a traceback when one HEAD of a worker fails."""
    files = {f"{i}.pt": seeded(str(i), 30_000) for i in range(40)}
    release.dataset("annotations", files)
    front.faults.reset_every = 4
    prefetch("-y", "--no-metadata")
    assert data_of(tree(out), release, "annotations") == files


def test_fault_14_an_object_costs_one_head_request(prefetch, official, release, front):
    """The official tool sends up to three HEADs for a file in a run, and more in the next."""
    files = {f"{i}.pt": seeded(str(i), 3000) for i in range(30)}
    release.dataset("annotations", files)
    official("-y", "--no-metadata")
    assert front.methods["HEAD"] > len(files)
    front.reset()
    prefetch("-y", "--no-metadata")
    assert front.methods["HEAD"] <= len(files)
    assert len(objects_read(front)) == len(files)
    front.reset()
    prefetch("-y", "--no-metadata")
    assert front.methods["HEAD"] == 0


def test_fault_15_ego4d_json_is_in_both_places_and_current(prefetch, official, release, out):
    """The official tool has it in the root only, not in v2/ as documented, and never renews it."""
    release.dataset("annotations", {"a.json": b"a"})
    release.metadata(b"{}")
    for run in (prefetch, official):
        run("-y")
    release.metadata(b'{"videos": []}')
    for run in (prefetch, official):
        run("-y")
    assert (out.parent / "official/ego4d.json").read_bytes() == b"{}"
    assert (out / "ego4d.json").read_bytes() == b'{"videos": []}'
    assert (out / release.version / "ego4d.json").read_bytes() == b'{"videos": []}'


def test_fault_16_the_manifest_can_be_fetched_alone(prefetch, official, release, out):
    """The official --manifest promises only the manifest and fetches everything."""
    release.dataset("annotations", {"a.json": b"a"})
    manifest = release.dataset("full_scale", {"b.mp4": b"b"})
    official("-y", "--no-metadata", "--manifest")
    assert (out.parent / "official" / release.version / "annotations/a.json").exists()
    prefetch("-y", "--no-metadata", "--manifests-only", "--datasets", "full_scale")
    assert tree(out) == {f"{release.version}/full_scale/manifest.csv": manifest}
    prefetch("-y", "--no-metadata", "--manifest")
    assert (out / "manifest.csv").read_bytes() == manifest


def test_fault_24_the_release_of_each_file_is_recorded(prefetch, official, release, out):
    """The official tool mixes v2 and v2_1 in one directory without a record of the version."""
    later = f"{release.version}_1"
    release.metadata(b"{}")
    for version, name in ((release.version, "old.json"), (later, "new.json")):
        url = release.put(name, name.encode())
        manifest = f"video_uid,type,s3_path\n{name},file,{url}\n".encode()
        release.server.put(SHARING, f"public/{version}/annotations/manifest.csv", manifest)
        for run in (official, prefetch):
            run("-y", "--no-metadata", "--version", version)
    theirs = out.parent / "official" / release.version / "annotations"
    assert {"old.json", "new.json"} < {path.name for path in theirs.iterdir()}
    recorded = [path.read_text() for path in theirs.iterdir() if path.name == "manifest.ver"]
    assert later not in "".join(recorded)
    journal = Journal(out / ".ego4dfs", read_only=True)
    directory = f"{release.version}/annotations"
    records = dict(journal.records(directory))
    journal.close()
    assert {path: record.release for path, record in records.items()} == {
        f"{directory}/old.json": release.version,
        f"{directory}/new.json": later,
    }


def test_fault_24_copies_of_an_older_release_can_be_removed(prefetch, release, out):
    """The official tool never removes a file; ego4dfs keeps the user's own files too."""
    release.dataset("annotations", {"old.json": b"old", "both.json": b"both"})
    prefetch("-y", "--no-metadata")
    url = release.url("annotations/both.json")
    later = f"{release.version}_1"
    manifest = f"video_uid,type,s3_path\nboth,file,{url}\n".encode()
    release.server.put(SHARING, f"public/{later}/annotations/manifest.csv", manifest)
    mine = out / release.version / "annotations/mine.json"
    mine.write_text("{}")
    flags = ("-o", str(out), "--version", later, "--datasets", "annotations", "--no-metadata")
    done = run_cli("verify", *flags)
    assert f"fetched as part of {release.version}" in done.stdout
    run_cli("verify", *flags, "--prune")
    found = data_of(tree(out), release, "annotations")
    assert found == {"both.json": b"both", "mine.json": b"{}"}


def test_fault_27_bypass_sends_no_requests_and_accepts_no_truncated_file(
    prefetch, official, release, front
):
    """The official --bypass-existing still requests each file and accepts truncated ones."""
    release.dataset("annotations", {"a.json": b"content", "b.json": b"more"})
    for run, directory, is_right in ((official, "official", False), (prefetch, "out", True)):
        run("-y", "--no-metadata")
        path = Path(os.environ["HOME"]).parent / directory / release.version / "annotations/a.json"
        front.reset()
        run("-y", "--no-metadata", "--bypass-existing")
        assert (front.methods["HEAD"] == 0) is is_right
        path.write_bytes(b"cont")
        run("-y", "--no-metadata", "--bypass-existing")
        assert (path.read_bytes() == b"content") is is_right


def test_fault_28_counts_and_sizes_are_right(prefetch, official, release):
    """The official tool counts uids as files, and missing files as existing ones."""
    release.dataset("annotations", {"a.json": bytes(2 * MIB)})
    here = f"a,file,{release.url('annotations/a.json')}"
    lost = f"lost,file,{release.url('lost.json')}"
    release.manifest("annotations", f"video_uid,type,s3_path\n{here}\n{lost}\n")
    assert "Filtered 1/2 existing videos" in official("-y", "--no-metadata").stdout
    done = prefetch("--no-metadata", "--dry-run", code=3)
    assert "existing videos" not in done.stdout
    assert "1 file to fetch, 2.0 MiB" in done.stdout
    document = json.loads(prefetch("--no-metadata", "--dry-run", "--json", code=3).stdout)
    found = document["datasets"][0]
    assert (found["files"], found["there"], found["to_fetch"]) == (2, 0, 1)
    assert found["missing"] + found["refused"] == 1
    assert found["bytes_to_fetch"] == 2 * MIB


def test_fault_29_too_little_room_is_reported_before_a_byte(
    release, front, out, monkeypatch, capsys
):
    """The official tool starts without checking the free space, and fails in the middle."""
    release.dataset("annotations", {"a.json": bytes(2 * MIB)})
    monkeypatch.setattr(Layout, "free_bytes", lambda *_: MIB)
    words = ["-y", "--no-metadata", "-o", str(out), "--version", release.version]
    assert main(["prefetch", *words]) == 1
    assert "are needed, and" in capsys.readouterr().err
    assert objects_read(front) == []


def test_fault_30_empty_objects_are_fetched_once(prefetch, official, release, front, out):
    """The official tool never records files of 0 bytes, and fetches them in every run."""
    release.dataset("annotations", {"a.json": b"a", "empty.json": b""})
    for _ in range(2):
        again = official("-y", "--no-metadata").stdout
    assert "no version entry for existing file" in again
    prefetch("-y", "--no-metadata")
    assert data_of(tree(out), release, "annotations") == {"a.json": b"a", "empty.json": b""}
    front.reset()
    assert "already exist" in prefetch("-y", "--no-metadata").stdout
    assert (objects_read(front), front.methods["HEAD"]) == ([], 0)
