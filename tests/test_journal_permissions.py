"""Copies of another user or without write permission, and the effects of adopting and pruning."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from ego4dfs.copies import Copies, Journal, Record
from ego4dfs.copies.manifest_ver import VersionFile
from ego4dfs.errors import OutputError
from ego4dfs.store import ObjectFacts
from kit.cli import run_cli
from kit.prefetch import data_of, tree
from kit.server import SHARING

pytestmark = pytest.mark.first_pass

FACTS = ObjectFacts(3, "e" * 32, "", 10**18)
RECORD = Record("s3://b/a", "there", "v2", FACTS, "md5")


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


def written(state: Path) -> Path:
    state.mkdir(parents=True)
    journal = Journal(state)
    journal.complete([("v2/viz/a", RECORD)])
    journal.close()
    return state


def looked(state: Path) -> list[str]:
    journal = Journal(state, read_only=True)
    try:
        return [path for path, _ in journal.records("v2/viz")]
    finally:
        journal.close()


@pytest.fixture
def read_only(small_disk):
    """A directory of copies on a disk that cannot be written any more."""
    written(small_disk / ".ego4dfs")
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    return small_disk


def test_a_journal_is_read_where_nothing_can_be_written(read_only):
    assert looked(read_only / ".ego4dfs") == ["v2/viz/a"]
    copies = Copies(read_only, "there", lambda _: None)
    assert copies._records
    copies.close()
    assert not copies.exists("v2/viz/a")


def test_an_unreadable_journal_is_an_error_and_does_not_count_as_empty(tmp_path, monkeypatch):
    state = written(tmp_path / ".ego4dfs")
    monkeypatch.setattr("ego4dfs.sqlite.os.access", lambda *_: False)
    with pytest.raises(OutputError, match="permission denied") as caught:
        looked(state)
    assert "chmod -R g+rwX" in caught.value.hint


def test_a_journal_that_is_damaged_is_named_with_its_remedy(tmp_path):
    state = written(tmp_path / ".ego4dfs")
    (state / "journal.sqlite").write_bytes(b"no database" * 1000)
    with pytest.raises(OutputError, match=r"journal\.sqlite cannot be used") as caught:
        looked(state)
    assert "remove it" in caught.value.hint


def test_damage_after_the_first_page_is_reported_too(tmp_path):
    """A later read would end in an error of SQLite."""
    state = tmp_path / ".ego4dfs"
    state.mkdir()
    journal = Journal(state)
    journal.complete((f"v2/viz/{number}", RECORD) for number in range(2000))
    journal.close()
    path = state / "journal.sqlite"
    content = bytearray(path.read_bytes())
    content[-4096:] = b"\xff" * 4096
    path.write_bytes(content)
    with pytest.raises(OutputError, match=r"journal\.sqlite cannot be used: malformed: \w.*"):
        looked(state)


def test_a_full_disk_is_an_error_and_not_a_signal(small_disk):
    """A mapped page that does not fit on a full disk would end the process by SIGBUS."""
    state = small_disk / ".ego4dfs"
    state.mkdir()
    with (small_disk / "rest").open("wb", buffering=0) as rest, suppress(OSError):
        while rest.write(bytes(1 << 20)):
            pass
    program = "import sys, pathlib, ego4dfs.copies as p; p.Journal(pathlib.Path(sys.argv[1]))"
    command = [sys.executable, "-c", program, str(state)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "no space left on device" in done.stderr


def test_a_file_completed_by_another_tool_leaves_no_part_file(prefetch, release, out):
    release.dataset("annotations", {"a.json": b"content"})
    prefetch("-y", "--no-metadata")
    path = f"{release.version}/annotations/a.json"
    journal = Journal(out / ".ego4dfs")
    [(_, record)] = journal.records(f"{release.version}/annotations")
    journal.remove([path])
    journal.begin(path, record.url, record.facts, "a.json.part")
    journal.close()
    (out / f"{path}.part").write_bytes(b"con")
    os.utime(out / path)
    prefetch("-y", "--no-metadata")
    assert data_of(tree(out), release, "annotations") == {"a.json": b"content"}


def test_a_row_withdrawn_within_a_release_is_not_pruned(prefetch, release, out):
    release.dataset("annotations", {"a.json": b"a", "b.json": b"b"})
    prefetch("-y", "--no-metadata")
    manifest = f"video_uid,type,s3_path\na,file,{release.url('annotations/a.json')}\n".encode()
    release.server.put(SHARING, f"public/{release.version}/annotations/manifest.csv", manifest)
    flags = ("-o", str(out), "--version", release.version, "--datasets", "annotations")
    run_cli("verify", *flags, "--no-metadata", "--prune")
    assert data_of(tree(out), release, "annotations") == {"a.json": b"a", "b.json": b"b"}


def test_rows_without_a_name_go_with_their_files(tmp_path):
    versions = VersionFile(tmp_path)
    versions.update([("a", "", "a.json"), ("b", "v", "b.json"), ("c", "", "c.json")])
    versions.remove(["a.json", "b.json"])
    assert [uid for uid, *_ in versions.all()] == ["c"]
