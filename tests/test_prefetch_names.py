"""Collisions between names of data and of part files."""

from __future__ import annotations

import os
import sqlite3

import pytest

from ego4dfs.copies import State
from ego4dfs.manifest import parse
from ego4dfs.prefetch import Status
from ego4dfs.prefetch.part_file import part_name
from kit.data import MIB
from kit.prefetch import data_of, tree

LONG = "n" * 251


@pytest.mark.fault(
    area="disk",
    fault="objects called `X` and `X.part` in one dataset",
    face="prefetch",
    sees="both are copied, each with its own bytes",
    deadline="at once",
)
@pytest.mark.parametrize("size", [70, 3 * MIB])
def test_objects_named_like_part_files_are_copied_beside_each_other(bench, size):
    suffixes = ("", ".part", ".part.part", ".ego4dfs.part", ".orig", ".1.new")
    files = {f"s3://b/x.mp4{suffix}": os.urandom(size) for suffix in suffixes}
    bench.store.objects |= files
    assert bench.fetch().counts[Status.DONE] == len(files)
    found = {f"s3://b/{path.name}": path.read_bytes() for path in bench.directory.glob("x*")}
    assert found == files
    assert bench.plan().count(State.RIGHT) == len(files)


def test_no_file_of_data_has_the_name_of_the_directory_of_part_files():
    rows = "video_uid,type,s3_path\na,file,s3://b/1/.ego4dfs\nb,file,s3://b/2/.ego4dfs\n"
    names = [entry.name for entry in parse(rows.encode(), "clips").entries]
    assert ".ego4dfs" not in names
    assert len(set(names)) == 2


@pytest.mark.parametrize("name", ["a", LONG[:250], LONG, "é" * 127])
def test_part_names_fit_and_differ(name):
    part = part_name(name)
    assert len(part.encode()) <= 255
    assert part != part_name(f"{name[:-1]}z")


def test_a_file_with_the_longest_possible_name_is_copied(bench):
    bench.store.objects[f"s3://b/{LONG}.mp4"] = b"data"
    assert bench.fetch().counts[Status.DONE] == 1
    assert (bench.directory / f"{LONG}.mp4").read_bytes() == b"data"


def begin_as_before(bench, name: str, data: bytes) -> None:
    """Create a part file as earlier versions did: beside the copies."""
    url = f"s3://b/{name}"
    facts = bench.store.facts_of(url)
    bench.journal.begin(f"v9/clips/{name}", url, facts, f"{name}.part")
    bench.journal.written(f"v9/clips/{name}", 0, len(data))
    (bench.directory / f"{name}.part").write_bytes(data)


def test_part_files_of_earlier_versions_are_resumed(bench):
    data = os.urandom(5 * MIB)
    bench.put(a=data)
    begin_as_before(bench, "a.mp4", data[: 3 * MIB])
    report = bench.fetch()
    assert (report.counts[Status.DONE], report.resumed_bytes) == (1, 3 * MIB)
    assert (bench.directory / "a.mp4").read_bytes() == data
    assert not (bench.directory / "a.mp4.part").exists()


@pytest.mark.parametrize("is_recorded", [True, False])
def test_data_at_the_path_of_an_earlier_part_file_is_kept(bench, is_recorded):
    data, other = os.urandom(5 * MIB), os.urandom(5 * MIB)
    bench.put(a=data)
    bench.store.objects["s3://b/a.mp4.part"] = other
    if is_recorded:
        bench.fetch()
        (bench.directory / "a.mp4").unlink()
    begin_as_before(bench, "a.mp4", other)
    bench.fetch()
    assert (bench.directory / "a.mp4").read_bytes() == data
    assert (bench.directory / "a.mp4.part").read_bytes() == other


@pytest.mark.parametrize("command", ["prefetch", "verify"])
def test_a_journal_of_an_earlier_version_still_works(
    prefetch, release, tmp_path, cli, front, command
):
    """Its tables have no times of files and no evidence about buckets."""
    files = {"a.bin": b"a" * 70, "b.bin": b"b" * 3 * MIB}
    release.dataset("annotations", files)
    prefetch("-y", "--no-metadata")
    with sqlite3.connect(tmp_path / "out/.ego4dfs/journal.sqlite") as journal:
        journal.execute("DROP TABLE times")
        journal.execute("DROP TABLE evidence")
    journal.close()
    front.reset()
    if command == "prefetch":
        assert "already exist" in prefetch("-y", "--no-metadata").stdout
    else:
        where = ("-o", str(tmp_path / "out"), "--version", release.version)
        assert "2 right" in cli("verify", *where, "--offline").stdout
    assert front.methods["HEAD"] == 0
    assert data_of(tree(tmp_path / "out"), release, "annotations") == files
