"""Directories that others may write: their links and names are not followed."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from ego4dfs.copies import Journal, Layout, State
from ego4dfs.copies.manifest_ver import VersionFile
from ego4dfs.errors import OutputError
from ego4dfs.files import Folder, Folders, write_atomic
from ego4dfs.prefetch import Status
from kit.copies import Bench
from kit.data import MIB
from kit.fakes import FailingStore
from kit.own_process import descriptors_below

STRANGER = 12345


def stranger_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every link count as another user's: an ordinary user cannot make any."""
    monkeypatch.setattr(Folder, "at", classmethod(_at_without_owners))


def _at_without_owners(cls, path):
    return cls(os.open(path, os.O_RDONLY | os.O_DIRECTORY), path, frozenset({STRANGER}))


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A directory elsewhere with a file; nothing in it may change."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "file").write_bytes(b"precious")
    os.utime(elsewhere / "file", ns=(10**18, 10**18))
    return elsewhere


def is_untouched(outside: Path) -> bool:
    file = outside / "file"
    same = (file.read_bytes(), file.stat().st_mtime_ns) == (b"precious", 10**18)
    return same and os.listdir(outside) == ["file"]


@pytest.mark.parametrize("size", [70, 3 * MIB])
@pytest.mark.parametrize("target", ["file", "new"])
@pytest.mark.parametrize("name", ["a.mp4", ".ego4dfs/a.mp4.part", "a.mp4.part", "manifest.ver"])
@pytest.mark.fault(
    area="disk",
    fault="a link that another user created at a path that is written",
    face="prefetch",
    sees="the copy is made; nothing outside the directory changes",
    deadline="at once",
)
def test_a_link_of_another_user_is_replaced_and_not_followed(bench, outside, name, target, size):
    bench.put(a=b"a" * size)
    (bench.directory / name).parent.mkdir(exist_ok=True)
    (bench.directory / name).symlink_to(outside / target)
    report = bench.fetch()
    assert report.counts[Status.DONE] == 1
    assert (bench.directory / "a.mp4").read_bytes() == b"a" * size
    assert not (bench.directory / "a.mp4").is_symlink()
    assert is_untouched(outside)


def test_a_part_file_with_another_hard_link_is_not_continued(bench, outside):
    """Bytes written to a hard link would be written to the other file."""
    bench.put(a=b"a" * 3 * MIB)
    facts = bench.store.facts_of("s3://b/a.mp4")
    bench.journal.begin("v9/clips/a.mp4", "s3://b/a.mp4", facts, ".ego4dfs/a.mp4.part")
    bench.journal.written("v9/clips/a.mp4", 0, 4)
    (bench.directory / ".ego4dfs").mkdir()
    os.link(outside / "file", bench.directory / ".ego4dfs/a.mp4.part")
    assert bench.fetch().counts[Status.DONE] == 1
    assert (bench.directory / "a.mp4").read_bytes() == b"a" * 3 * MIB
    assert is_untouched(outside)


def test_the_mtime_of_the_target_of_a_link_is_not_set(bench, outside):
    bench.put(a=b"precious")
    (bench.directory / "a.mp4").symlink_to(outside / "file")
    assert bench.fetch().counts[Status.SKIPPED] == 1
    assert is_untouched(outside)
    assert bench.plan().count(State.RIGHT) == 1  # known again by the time that it has


@pytest.mark.parametrize("name", ["v9/clips", "v9", ".ego4dfs"])
def test_a_directory_that_another_user_linked_is_refused(tmp_path, outside, monkeypatch, name):
    layout = Layout(tmp_path / "out", "v9")
    (layout.root / name).parent.mkdir(parents=True)
    (layout.root / name).symlink_to(outside)
    stranger_made(monkeypatch)
    with pytest.raises(
        OutputError, match=r"is a link that another user made \(uid \d+\)"
    ) as caught:
        layout.prepare(("clips",))
    assert "remove the link" in caught.value.hint
    assert is_untouched(outside)


def test_a_dataset_that_its_user_linked_to_another_disk_is_written_there(tmp_path):
    disk = tmp_path / "disk2"
    disk.mkdir()
    (tmp_path / "out/v9").mkdir(parents=True)
    (tmp_path / "out/v9/clips").symlink_to(disk)
    bench = Bench(tmp_path, FailingStore())
    bench.put(a=b"a" * 3 * MIB)
    try:
        assert bench.fetch().counts[Status.DONE] == 1
        assert sorted(os.listdir(disk)) == ["a.mp4", "manifest.ver"]
    finally:
        bench.close()


@pytest.mark.parametrize("name", ["lock", "journal.sqlite", "journal.sqlite-wal"])
def test_a_link_in_place_of_our_own_records_is_refused(tmp_path, outside, name):
    state = tmp_path / ".ego4dfs"
    state.mkdir()
    (state / name).symlink_to(outside / "file")
    with pytest.raises(OutputError, match=name) as caught:
        Journal(state)
    assert "remove it" in caught.value.hint
    assert is_untouched(outside)


@pytest.mark.parametrize("is_shared", [True, False])
def test_a_file_is_replaced_completely_or_not_at_all(tmp_path, monkeypatch, is_shared):
    path = tmp_path / "manifest.ver"
    write_atomic(path, b"old", is_shared=is_shared)
    monkeypatch.setattr(os, "fsync", _full)
    with pytest.raises(OSError, match="No space"):
        write_atomic(path, b"new", is_shared=is_shared)
    assert path.read_bytes() == b"old"
    monkeypatch.undo()
    write_atomic(path, b"new", is_shared=is_shared)
    assert os.listdir(tmp_path) == ["manifest.ver"]


@pytest.mark.parametrize("is_shared", [True, False])
def test_pieces_are_written_in_order_and_their_error_keeps_the_old_file(tmp_path, is_shared):
    def failing():
        yield b"new"
        raise KeyError("no more")

    path = tmp_path / "clip.mp4"
    write_atomic(path, iter([b"o", b"ld"]), is_shared=is_shared)
    with pytest.raises(KeyError):
        write_atomic(path, failing(), is_shared=is_shared)
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["clip.mp4"]


def _full(_descriptor: int) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_two_writers_of_one_name_publish_whole_files(tmp_path, monkeypatch):
    """Also if both have one process id, as in two containers."""
    monkeypatch.setattr(os, "getpid", lambda: 7)
    with Folder.at(tmp_path) as one, Folder.at(tmp_path) as other:

        def pieces() -> Iterator[bytes]:
            yield b"slow "
            other.write_atomic("a", b"quick")
            assert (tmp_path / "a").read_bytes() == b"quick"
            yield b"but whole"

        one.write_atomic("a", pieces())
    assert (tmp_path / "a").read_bytes() == b"slow but whole"
    assert os.listdir(tmp_path) == ["a"]


def test_a_temporary_file_of_another_writer_is_not_replaced(tmp_path, monkeypatch):
    monkeypatch.setattr("ego4dfs.files.folder.secrets.token_hex", lambda _: "0" * 8)
    theirs = tmp_path / ".ego4dfs" / "a.00000000.new"
    theirs.parent.mkdir()
    theirs.write_bytes(b"theirs")
    with Folder.at(tmp_path) as folder, pytest.raises(FileExistsError):
        folder.write_atomic("a", b"mine")
    assert theirs.read_bytes() == b"theirs"


def test_only_old_temporary_files_are_removed(tmp_path):
    names = {"a.01234567.new", "a.mp4.89abcdef.link"}
    kept = {"a.part", "a.new", "a.0123.new", "manifest.ver"}
    (tmp_path / ".ego4dfs").mkdir()
    for name in names | kept:
        (tmp_path / ".ego4dfs" / name).touch()
        os.utime(tmp_path / ".ego4dfs" / name, (0, 0))  # as `write_atomic` does
    with Folder.at(tmp_path) as folder:
        folder.remove_unfinished()
        assert set(folder.hidden_names()) == names | kept
        folder.remove_unfinished(older_than_s=-1)
        assert set(folder.hidden_names()) == kept


def test_a_directory_without_temporary_files_keeps_none(tmp_path):
    with Folder.at(tmp_path) as folder:
        folder.remove_unfinished()
        assert os.listdir(tmp_path) == []


def test_temporary_files_that_cannot_be_looked_at_are_left(tmp_path):
    (tmp_path / ".ego4dfs").write_bytes(b"")
    with Folder.at(tmp_path) as folder:
        folder.remove_unfinished(older_than_s=-1)
    assert os.listdir(tmp_path) == [".ego4dfs"]


def test_errors_have_the_full_path(tmp_path):
    with Folder.at(tmp_path) as folder, pytest.raises(FileNotFoundError) as caught:
        folder.open("a")
    assert caught.value.filename == str(tmp_path / "a")


def test_a_hidden_directory_that_was_removed_is_created_again(tmp_path, monkeypatch):
    """Another thread finds it empty and removes it between its making and the first file in it."""
    folders = Folders(tmp_path)
    folder, true, times = folders.folder("v9"), Folder.create, iter([True, True])

    def create(self, name):
        if next(times, False):
            folder.remove_hidden()
        return true(self, name)

    monkeypatch.setattr(Folder, "create", create)
    hidden, descriptor = folder.create_hidden("a.part")
    os.close(descriptor)
    assert hidden.status("a.part") is not None
    assert os.listdir(tmp_path / "v9/.ego4dfs") == ["a.part"]
    folders.close()


def test_a_hidden_directory_that_was_removed_before_it_is_opened_is_created_again(
    tmp_path, monkeypatch
):
    """Another process, that writes to this directory too, finds it empty and removes it."""
    true, times = os.mkdir, iter([True, True])

    def make(name, mode, *, dir_fd):
        true(name, mode, dir_fd=dir_fd)
        if next(times, False):
            os.rmdir(name, dir_fd=dir_fd)

    monkeypatch.setattr(os, "mkdir", make)
    with Folder.at(tmp_path) as folder:
        folder.write_atomic("a", b"a")
    assert (tmp_path / "a").read_bytes() == b"a"


def test_the_hidden_directory_is_opened_once(tmp_path):
    folders = Folders(tmp_path)
    folder = folders.folder("v9")
    before = len(descriptors_below(tmp_path))
    for name in ("a.part", "b.part", "c.part"):
        hidden, descriptor = folder.create_hidden(name)
        os.close(descriptor)
        hidden.remove(name)
    assert len(descriptors_below(tmp_path)) == before + 1
    folders.close()
    assert len(descriptors_below(tmp_path)) == before - 2 == 0


def test_files_written_again_and_again_use_no_further_descriptors(tmp_path):
    folders = Folders(tmp_path)
    folder = folders.folder("v9")
    versions = VersionFile(tmp_path / "v9")
    found = []
    for number in range(50):
        hidden, descriptor = folder.create_hidden(f"{number}.part")
        os.close(descriptor)
        hidden.rename(f"{number}.part", folder, f"{number}.mp4")
        versions.put(str(number), "version", f"{number}.mp4")
        assert versions.save(folder)
        found.append(descriptors_below(tmp_path))
    assert found == [found[0]] * 50
    folders.close()
    assert not (tmp_path / "v9/.ego4dfs").exists()


def test_a_file_is_hidden_in_a_directory_that_was_removed_meanwhile(tmp_path):
    with Folder.at(tmp_path) as folder:
        folder.hidden(make=True)
        (tmp_path / ".ego4dfs").rmdir()
        (tmp_path / "a.part").write_bytes(b"a")
        folder.hide("a.part", "b.part")
        assert folder.hidden_names() == ["b.part"]
        with pytest.raises(FileNotFoundError):
            folder.hide("a.part", "b.part")


def test_a_directory_without_hidden_files_keeps_none(tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "there/a").write_bytes(b"a")
    with Folder.at(tmp_path) as folder, folder.below("there") as there:
        folder.link_from("a", there)
        folder.write_atomic("b", b"b")
    assert sorted(os.listdir(tmp_path)) == ["a", "b", "there"]
