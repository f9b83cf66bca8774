"""What counts as complete, by the journal, the official tool's manifest.ver, and S3."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess

import pytest

from ego4dfs.cli import main
from ego4dfs.copies import journal_file
from ego4dfs.copies.manifest_ver import VersionFile
from ego4dfs.prefetch import planner
from kit.cli import EGO4DFS
from kit.data import MIB, seeded
from kit.processes import wait_until

pytestmark = pytest.mark.first_pass

CONTENT = {"a.pt": seeded("a", 5000), "b.pt": seeded("b", 9 * MIB + 5), "c.json": seeded("c", 70)}


NOTHING = "The latest versions of all requested videos already exist"


def replaced(shared) -> dict[str, bytes]:
    """Replace every object by one of the same size."""
    new = {name: seeded(f"new {name}", len(data)) for name, data in CONTENT.items()}
    for name, data in new.items():
        shared.put(name, data)
    return new


def test_an_object_replaced_by_one_of_its_size_is_fetched_again(shared):
    shared.publish("annotations", CONTENT)
    shared.ours("-y")
    new = replaced(shared)
    shared.expire_checks()
    shared.ours("-y")
    assert shared.found() == new
    assert NOTHING in shared.official()


def test_after_clearing_the_cache_every_object_is_requested(shared):
    shared.publish("annotations", CONTENT)
    shared.ours("-y")
    new = replaced(shared)
    shutil.rmtree(os.environ["EGO4DFS_CACHE_DIR"])
    shared.ours("-y")
    assert shared.found() == new


def test_each_object_is_revalidated_once_in_half_a_day(shared):
    shared.publish("annotations", CONTENT)
    shared.ours("-y")
    shared.expire_checks()
    for expected in (sorted(CONTENT), []):
        shared.front.reset()
        assert NOTHING in shared.ours()
        assert (shared.requested("HEAD"), shared.requested("GET")) == (expected, [])


def test_copies_stay_complete_while_the_store_does_not_answer(shared):
    shared.publish("annotations", CONTENT)
    shared.ours("-y")
    shared.expire_checks()
    shared.front.stop()
    output = shared.ours()
    assert NOTHING in output
    assert "cannot check now whether copies are the latest" in output
    shared.front.start()
    shared.front.reset()
    shared.ours()
    assert shared.requested("HEAD") == sorted(CONTENT)


def test_a_run_after_the_official_tool_has_nothing_to_fetch(shared):
    """Its record has no row for ego4d.json, and no versions for files of unversioned buckets."""
    shared.publish("annotations", CONTENT)
    shared.official()
    shared.front.reset()
    assert NOTHING in shared.ours("--dry-run")
    shared.front.reset()
    output = shared.ours()
    assert NOTHING in output
    assert "to fetch" not in output
    assert shared.requested("GET") == []
    assert shared.front.requests <= len(CONTENT) + 2  # ego4d.json and the manifest
    shared.front.reset()
    assert NOTHING in shared.ours()
    assert shared.front.requests == 2


def test_files_too_large_to_compare_before_the_plan_are_counted_in_it(shared, monkeypatch, capsys):
    shared.publish("annotations", CONTENT)
    shared.official()
    for record in shared.out.rglob("manifest.ver"):
        record.unlink()
    monkeypatch.setattr(planner, "COMPARED_BYTES", 6000)
    shared.front.reset()
    words = ["prefetch", "-y", "-o", str(shared.out), "--version", shared.release.version]
    assert main(words) == 0
    assert "1 of these exist, and are fetched if they differ." in capsys.readouterr().out
    assert shared.requested("GET") == []


def test_the_official_tool_fetches_nothing_after_a_run_of_both(shared):
    """Its rows without versions, which it does not recognise (fault 2), are repaired."""
    shared.publish("annotations", CONTENT)
    shared.official()
    shared.ours()
    shared.front.reset()
    assert NOTHING in shared.official()
    assert shared.requested("GET") == []


def test_a_row_that_the_official_tool_damages_is_repaired_again(shared):
    """When it fetches one file it writes all rows, and those without versions in its own form."""
    shared.publish("annotations", CONTENT)
    shared.ours("-y")
    (shared.directory() / "c.json").unlink()
    shared.official()
    shared.ours()
    shared.front.reset()
    assert NOTHING in shared.official()
    assert shared.requested("GET") == []


def test_rows_in_the_directory_of_another_dataset_count(shared):
    """Fault 1: it records several datasets in the directory of one.

    Without versions to go by, files are compared.
    """
    shared.publish("viz", {"v.jpg": seeded("v", 40_000)})
    shared.publish("annotations", CONTENT)
    flags = ("--datasets", "annotations", "viz")
    shared.official(*flags)
    assert len(list(shared.out.rglob("manifest.ver"))) == 1
    if shared.bucket.endswith("-versioned"):
        for name in CONTENT:
            os.chmod(shared.directory() / name, 0)  # by its record, not by its bytes
    shared.front.reset()
    assert NOTHING in shared.ours(*flags)
    assert shared.requested("GET") == []


def test_a_newer_version_from_the_official_tool_is_not_fetched_again(shared):
    shared.publish("annotations", CONTENT)
    shared.ours("-y")
    new = replaced(shared)
    if shared.bucket.endswith("-plain"):  # it cannot see that they are others
        for name in CONTENT:
            (shared.directory() / name).unlink()
    shared.official()
    assert shared.found() == new
    shared.front.reset()
    assert NOTHING in shared.ours()
    assert shared.requested("GET") == []
    assert shared.found() == new


def test_a_copy_with_a_row_of_another_version_is_revalidated(shared):
    shared.publish("annotations", CONTENT)
    shared.ours("-y")
    rows = VersionFile(shared.directory())
    rows.put("a", "another-version", "a.pt")
    rows.save()
    shared.front.reset()
    assert NOTHING in shared.ours()
    assert (shared.requested("HEAD"), shared.requested("GET")) == (["a.pt"], [])
    assert NOTHING in shared.official()
    new = replaced(shared)
    rows = VersionFile(shared.directory())
    rows.put("a", "another-version", "a.pt")
    rows.save()
    shared.ours("-y")
    assert shared.found()["a.pt"] == new["a.pt"]


def test_a_truncated_file_of_the_official_tool_is_not_complete(shared, spawn):
    large = {"large.mp4": seeded("large", 40 * MIB)}
    shared.publish("annotations", large)
    shared.front.faults.piece_bytes, shared.front.faults.bytes_per_s = 64 << 10, MIB
    command = ["-m", "ego4d.cli.cli", "-y", "-o", str(shared.out), "--no-metadata"]
    process = spawn(
        [EGO4DFS[0], *command, "--version", shared.release.version],
        env={**os.environ, "AWS_DEFAULT_REGION": "us-east-1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    wait_until(lambda: shared.front.bytes_sent > 4 * MIB)
    process.kill()
    process.wait()
    [half] = shared.directory().glob("large.mp4*")
    shared.front.reset()
    shared.ours("-y")
    assert shared.found()["large.mp4"] == large["large.mp4"]
    assert half.name != "large.mp4"
    assert half.exists()  # not ours to delete


@pytest.mark.parametrize("has_row", [False, True])
def test_a_file_of_the_right_size_with_wrong_bytes_is_not_complete(shared, has_row):
    """Half of it is overwritten: only a record of exactly this file counts."""
    shared.publish("annotations", CONTENT)
    shared.ours("-y")
    path = shared.directory() / "b.pt"
    with path.open("r+b") as file:
        file.write(bytes(MIB))
    later = path.stat().st_mtime + 3600  # copies are not made in the second of their upload
    os.utime(path, (later, later))
    if not has_row:
        (shared.directory() / "manifest.ver").unlink()
    shared.ours("-y")
    assert shared.found()["b.pt"] == CONTENT["b.pt"]


def test_files_changed_after_the_official_record_was_saved_are_compared(shared):
    """Its rows have versions and no checksums: an older row says nothing about the bytes."""
    shared.publish("annotations", CONTENT)
    shared.official()
    saved = (shared.directory() / "manifest.ver").stat().st_mtime
    for name in CONTENT:
        os.utime(shared.directory() / name, (saved + 60, saved + 60))
    for name in ("a.pt", "b.pt"):  # of one part and of two
        path = shared.directory() / name
        path.write_bytes(bytes(len(CONTENT[name])))
        os.utime(path, (saved + 60, saved + 60))
    shared.front.reset()
    shared.ours("-y")
    assert shared.found() == CONTENT
    assert set(shared.requested("GET")) == {"a.pt", "b.pt"}
    shared.front.reset()
    assert NOTHING in shared.ours()


def test_a_journal_on_a_full_disk_is_reported_as_a_full_disk(tmp_path):
    """Removing the journal, as if it were damaged, would be the wrong remedy."""
    error = sqlite3.OperationalError("database or disk is full")
    failure = journal_file.unusable(tmp_path / "journal.sqlite", error)
    assert "no space left on device" in str(failure)
    assert failure.hint.startswith("make room")
    assert "damaged" in journal_file.unusable(tmp_path, sqlite3.DatabaseError("malformed")).hint
