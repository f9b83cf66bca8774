"""Copies on disks that lack something, refuse one file, or are shared by several users."""

from __future__ import annotations

import errno
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from ego4dfs.cli.output import ExitCode
from ego4dfs.copies import Journal, Layout, State
from ego4dfs.errors import OutputError
from ego4dfs.files import Folder
from ego4dfs.prefetch import Fetcher, Status
from ego4dfs.prefetch.disk_errors import DiskErrors
from ego4dfs.prefetch.part_file import PartFile
from ego4dfs.verify import Verdict, check_plan
from kit.copies import Bench
from kit.data import MIB
from kit.fakes import FailingStore
from kit.passthrough_fs import limited_filesystem
from kit.prefetch import data_of, tree

FILES = {"a.bin": b"a" * 70, "b.bin": b"b" * 3 * MIB}


@pytest.mark.slow
@pytest.mark.parametrize("lacks", [("times", "modes", "syncs", "maps"), ("blocks",)], ids="-".join)
@pytest.mark.fault(
    area="disk",
    fault="a filesystem without times, modes, syncs, shared memory or a count of blocks",
    face="prefetch, verify",
    sees="all files are copied, with one warning; a second run fetches nothing",
    deadline="at once",
)
def test_copies_are_made_on_a_filesystem_that_lacks_a_call(
    prefetch, release, tmp_path, cli, front, lacks
):
    release.dataset("annotations", FILES)
    with limited_filesystem(tmp_path / "source", tmp_path / "odd", *lacks) as disk:
        prefetch("-y", "--no-metadata", "-o", str(disk))
        assert data_of(tree(disk), release, "annotations") == FILES
        front.reset()
        again = prefetch("-y", "--no-metadata", "-o", str(disk))
        assert "already exist" in again.stdout
        assert not any(path.endswith(".bin") for _, path, _ in front.log)
        where = ("-o", str(disk), "--version", release.version)
        assert "2 right" in cli("verify", *where, "--offline").stdout


@pytest.mark.parametrize("size", [70, 3 * MIB])
@pytest.mark.parametrize("refused", ["utime", "fsync", "fdatasync", "chmod"])
def test_a_refused_optional_call_fails_no_copy(bench, monkeypatch, size, refused):
    def refuse(*_arguments: object, **_named: object) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    bench.put(a=b"a" * size)
    monkeypatch.setattr(os, refused, refuse)
    assert bench.fetch().counts[Status.DONE] == 1
    monkeypatch.undo()
    assert bench.plan().count(State.RIGHT) == 1
    [found] = check_plan(bench.layout, bench.plan(), (), bench.journal, "v9")
    assert found.verdict is Verdict.RIGHT


def test_a_file_changed_after_it_was_copied_without_its_time_is_noticed(bench, monkeypatch):
    bench.put(a=b"a" * 70)
    with monkeypatch.context() as patched:
        patched.setattr(os, "utime", _refused)
        bench.fetch()
    path = bench.directory / "a.mp4"
    path.write_bytes(b"b" * 70)
    os.utime(path, (1e9, 1e9))
    assert bench.plan().count(State.RIGHT) == 0
    bench.fetch()
    assert path.read_bytes() == b"a" * 70


def _refused(*_arguments: object, **_named: object) -> None:
    raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))


def test_a_disk_that_reports_no_blocks_does_not_count_as_full(tmp_path, monkeypatch):
    layout = Layout(tmp_path, "v9")
    assert layout.free_bytes()
    nothing = os.statvfs_result((4096, 4096, 0, 0, 0, 0, 0, 0, 0, 255))
    monkeypatch.setattr(os, "statvfs", lambda _: nothing)
    assert layout.free_bytes() is None


@pytest.mark.slow
@pytest.mark.fault(
    area="disk",
    fault="files too large for the disk, or with names that it does not allow",
    face="prefetch",
    sees="these fail and are named; the others are copied; exit code 3",
    deadline="at once",
)
def test_files_that_a_disk_refuses_do_not_stop_others(prefetch, release, tmp_path):
    bad = {"large1.bin": b"x" * 3 * MIB, "large2.bin": b"y" * 2 * MIB, "a:b.bin": b"colon"}
    good = {f"{number:02}.bin": bytes([number]) * 1000 for number in range(40)}
    release.dataset("annotations", {**bad, **good})
    with limited_filesystem(tmp_path / "source", tmp_path / "odd", "large", "colons") as disk:
        done = prefetch("-y", "--no-metadata", "-o", str(disk), code=3)
        assert data_of(tree(disk), release, "annotations") == good
        assert not list(disk.rglob("*.part"))
    failures = [line for line in done.stderr.splitlines() if line.startswith("  failed")]
    assert len(failures) == 3
    assert sum("too large for this disk" in line for line in failures) == 2
    assert sum("a:b.bin: this disk does not allow this name" in line for line in failures) == 1


@pytest.mark.parametrize("size", [70, 3 * MIB])
def test_names_that_a_disk_cannot_find_do_not_stop_others(bench, monkeypatch, size):
    """exfat-fuse reports a name with a colon, which it cannot have, as missing."""
    true = Folder.create

    def create(self, name):
        if ":" in name:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), name)
        return true(self, name)

    monkeypatch.setattr(Folder, "create", create)
    names = [f"{number}:" for number in range(20)]
    bench.put(**dict.fromkeys([*names, "z"], b"a" * size))
    report = bench.fetch()
    assert report.stopped_by is None
    assert {p.reason for p in report.problems} == {"this disk does not allow this name"}
    assert len(report.problems) == len(names)
    assert (bench.directory / "z.mp4").read_bytes() == b"a" * size


@pytest.mark.parametrize("size", [70, 3 * MIB])
def test_a_directory_in_the_place_of_a_file_fails_that_file(bench, size):
    bench.put(a=b"a" * size, b=b"b" * size)
    (bench.directory / "a.mp4").mkdir()
    report = bench.fetch()
    assert [p.reason for p in report.problems] == ["there is a directory of this name"]
    assert (bench.directory / "a.mp4").is_dir()
    assert (bench.directory / "b.mp4").read_bytes() == b"b" * size
    assert not (bench.directory / ".ego4dfs").exists()
    assert not [url for url, _, _ in bench.store.gets if url.endswith("a.mp4") and size > MIB]


def test_a_directory_that_takes_the_name_of_an_unfinished_file_leaves_no_part_file(
    bench, monkeypatch
):
    bench.put(a=b"a" * 3 * MIB)
    true = PartFile.finish

    def finish(self, mtime_ns):
        (bench.directory / "a.mp4").mkdir()
        return true(self, mtime_ns)

    monkeypatch.setattr(PartFile, "finish", finish)
    report = bench.fetch()
    assert [p.reason for p in report.problems] == ["there is a directory of this name"]
    assert not (bench.directory / ".ego4dfs").exists()
    assert bench.journal.partial_download("v9/clips/a.mp4") is None


@pytest.mark.parametrize("place", ["", "v2"])
def test_a_directory_in_the_place_of_the_metadata_fails_that_file(
    prefetch, release, tmp_path, place
):
    files = {"a.bin": b"a" * 70}
    release.dataset("annotations", files)
    release.metadata(b"{}")
    (tmp_path / "out" / (place and release.version) / "ego4d.json").mkdir(parents=True)
    done = prefetch("-y", code=3)
    assert "ego4d.json: there is a directory of this name" in done.stderr
    assert "1 failed" in done.stdout
    assert data_of(tree(tmp_path / "out"), release, "annotations") == files
    assert not list(tmp_path.glob("out/**/*.link"))


@pytest.mark.parametrize("size", [70, 3 * MIB])
@pytest.mark.parametrize("number", [errno.EACCES, errno.ENAMETOOLONG, errno.EIO, errno.EFBIG])
def test_an_error_of_one_file_fails_only_that_file(bench, monkeypatch, number, size):
    bench.put(a=b"a" * size, b=b"b" * size)
    true = Folder.rename

    def rename(self, name, folder, new_name):
        if new_name == "a.mp4":
            raise OSError(number, os.strerror(number), new_name)
        true(self, name, folder, new_name)

    monkeypatch.setattr(Folder, "rename", rename)
    report = bench.fetch()
    assert report.stopped_by is None
    assert [(p.path, p.status) for p in report.problems] == [("v9/clips/a.mp4", Status.FAILED)]
    assert (bench.directory / "b.mp4").read_bytes() == b"b" * size


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS])
def test_an_error_of_the_disk_stops_the_run(tmp_path, number):
    assert DiskErrors(tmp_path).affects_all(OSError(number, "disk"))


def test_the_same_error_for_many_files_in_a_row_stops_the_run(tmp_path):
    troubles, error = DiskErrors(tmp_path), OSError(errno.EIO, "disk")
    assert not any(troubles.affects_all(error) for _ in range(10))
    troubles.reset()
    assert any(troubles.affects_all(error) for _ in range(16))
    assert not any(troubles.affects_all(OSError(errno.EFBIG, "large")) for _ in range(99))
    assert DiskErrors(tmp_path / "gone").affects_all(FileNotFoundError(errno.ENOENT, "gone"))


@pytest.mark.parametrize("umask", [0o002, 0o022, 0o077])
def test_modes_are_those_that_the_umask_allows(tmp_path, umask):
    before = os.umask(umask)
    try:
        bench = Bench(tmp_path, FailingStore())
        bench.put(a=b"a", b=b"b" * 3 * MIB)
        bench.fetch()
        state = bench.layout.state
        found = [*bench.directory.iterdir(), *(path for path in state.iterdir())]
        assert {path.stat().st_mode & 0o777 for path in found} == {0o666 & ~umask}
        assert {p.stat().st_mode & 0o777 for p in (state, bench.directory)} == {0o777 & ~umask}
        bench.close()
    finally:
        os.umask(before)


def test_a_journal_that_may_not_be_written_is_reported_with_its_remedy(tmp_path, monkeypatch):
    layout = Layout(tmp_path, "v9")
    layout.prepare(())

    def create(self, name):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(self.path / name))

    monkeypatch.setattr(Folder, "open_or_create", create)
    with pytest.raises(OutputError, match=r"\.ego4dfs/lock: permission denied") as caught:
        Journal(layout.state)
    assert "chmod -R g+rwX" in caught.value.hint


@pytest.mark.slow
@pytest.mark.fault(
    area="disk",
    fault="names that differ in case only, on a disk that ignores case",
    face="prefetch, verify, mount",
    sees="both are copied, the second as stem~2.ext; later runs fetch nothing",
    deadline="at once",
)
@pytest.mark.parametrize("lacks", [("case",), ("case", "inodes")], ids="-".join)
def test_names_that_are_equal_on_a_disk_are_both_kept(
    prefetch, release, tmp_path, cli, front, open_tree, lacks
):
    files = {
        "Notes.json": b"first",
        "notes.json": b"other",
        "STRASSE.json": b"ss",
        "Straße.json": b"sz",
    }
    release.dataset("annotations", files)
    with limited_filesystem(tmp_path / "source", tmp_path / "odd", *lacks) as disk:
        done = prefetch("-y", "--no-metadata", "-o", str(disk))
        assert "2 names are the same as those of other files" in done.stdout
        kept = {
            "Notes.json": b"first",
            "notes~2.json": b"other",
            "STRASSE.json": b"ss",
            "Straße~2.json": b"sz",
        }
        assert data_of(tree(disk), release, "annotations") == kept
        front.reset()
        where = ("-o", str(disk), "--version", release.version)
        assert "already exist" in prefetch("-y", "--no-metadata", "-o", str(disk)).stdout
        one = prefetch("-y", "--no-metadata", "-o", str(disk), "--include", "notes.json")
        assert "already exist" in one.stdout
        assert "4 right\n" in cli("verify", *where, "--no-metadata").stdout
        assert "4 right\n" in cli("verify", *where, "--offline").stdout
        (disk / ".ego4dfs/selections.json").unlink()
        prefetch("-y", "--no-metadata", "-o", str(disk), "--include", "notes.json")
        assert "4 right\n" in cli("verify", *where, "--no-metadata").stdout
        assert not any(path.endswith(".json") for verb, path, _ in front.log if verb == "GET")
        vfs = open_tree(version=release.version, datasets=["annotations"], copies=str(disk))
        for name, data in files.items():
            handle = vfs.open(f"{release.version}/annotations/{name}")
            assert vfs.read(handle, 0, 100) == data
        assert vfs.session.metrics.bytes_from_copies == sum(map(len, files.values()))
        vfs.close()


def test_names_that_differ_in_case_are_kept_on_a_case_sensitive_disk(bench):
    bench.store.objects |= {"s3://b/Notes.json": b"first", "s3://b/notes.json": b"other"}
    bench.fetch()
    assert (bench.directory / "Notes.json").read_bytes() == b"first"
    assert (bench.directory / "notes.json").read_bytes() == b"other"


def test_a_dry_run_creates_no_file_to_check_for_case(tmp_path, monkeypatch):
    bench = Bench(tmp_path, FailingStore())
    bench.store.objects |= {"s3://b/Notes.json": b"first", "s3://b/notes.json": b"other"}
    bench.journal.close()
    bench.journal = Journal(bench.layout.state, read_only=True)
    monkeypatch.setattr(Folder, "create", None)
    assert bench.plan().count(State.FETCH) == 2
    bench.close()


def test_a_dataset_that_cannot_be_written_fails_its_own_files_only(prefetch, release, tmp_path):
    release.dataset("clips", {"a.mp4": b"a", "b.mp4": b"b"})
    release.dataset("viz", {"c.jpg": b"c"})
    version = tmp_path / "out" / release.version
    version.mkdir(parents=True)
    (version / "clips").write_text("not a directory")
    flags = ("-y", "--no-metadata", "--datasets")
    done = prefetch(*flags, "clips", "viz", code=ExitCode.PARTIAL)
    assert (version / "viz/c.jpg").read_bytes() == b"c"
    assert done.stderr.count(f"cannot be written: {version / 'clips'}: not a directory") == 2
    assert "not a directory" in prefetch(*flags, "clips", code=ExitCode.FAILURE).stderr
    (version / "clips").unlink()
    prefetch(*flags, "clips", "viz")
    assert (version / "clips/a.mp4").read_bytes() == b"a"


def test_bytes_of_datasets_that_cannot_be_written_are_not_waited_for(bench):
    bench.put(a=b"a" * 70)
    error = PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    plan = bench.plan()
    fetcher = Fetcher(bench.session, bench.layout, bench.journal, plan, unwritable={"clips": error})
    assert fetcher.run()
    report = fetcher.report
    assert (report.total_bytes, report.moved_bytes) == (0, 0)
    assert (report.files, report.counts[Status.FAILED]) == (1, 1)


def _mounted(disk: Path, options: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{options}", str(disk)], check=True)


@pytest.fixture
def linked(prefetch, release, tmp_path, small_disk) -> Path:
    """The directory of clips, on a disk of its own, and complete."""
    release.dataset("clips", {"a.mp4": b"a", "b.mp4": b"b"})
    directory = tmp_path / "out" / release.version / "clips"
    directory.parent.mkdir(parents=True)
    directory.symlink_to(small_disk)
    prefetch("-y", "--no-metadata", "--datasets", "clips")
    return directory


def test_a_complete_dataset_may_be_read_only(prefetch, release, front, linked, small_disk):
    _mounted(small_disk, "ro")
    front.reset()
    assert "already exist" in prefetch("-y", "--no-metadata", "--datasets", "clips").stdout
    assert not any(path.endswith(".mp4") for verb, path, _ in front.log if verb == "GET")
    release.dataset("viz", {"c.jpg": b"c"})
    prefetch("-y", "--no-metadata", "--datasets", "clips", "viz")
    assert (linked.parent / "viz/c.jpg").read_bytes() == b"c"


def test_copies_of_the_official_tool_may_be_read_only(prefetch, linked, small_disk, tmp_path):
    (linked / "manifest.ver").unlink()
    os.utime(linked / "a.mp4")
    shutil.rmtree(tmp_path / "out/.ego4dfs")
    _mounted(small_disk, "ro")
    prefetch("-y", "--no-metadata", "--datasets", "clips", "--bypass-existing")


def test_a_read_only_dataset_that_has_changed_fails_its_own_files_only(
    prefetch, release, linked, small_disk
):
    _mounted(small_disk, "ro")
    release.dataset("clips", {"a.mp4": b"a", "b.mp4": b"b", "new.mp4": b"new"})
    release.dataset("viz", {"c.jpg": b"c"})
    flags = ("-y", "--no-metadata", "--datasets", "clips")
    done = prefetch(*flags, "viz", code=ExitCode.PARTIAL)
    assert (linked.parent / "viz/c.jpg").read_bytes() == b"c"
    assert re.search(r"new.mp4: cannot be written: /\S+: read-only file system", done.stderr)
    assert "-o" in prefetch(*flags, code=ExitCode.FAILURE).stderr
    done = prefetch(*flags, "viz", "--include", "a.mp4,c.jpg", code=ExitCode.PARTIAL)
    assert "manifest.csv: cannot be written: read-only file system" in done.stderr
    assert "--include" in done.stderr.splitlines()[-1]


@pytest.mark.fault(
    area="disk",
    fault="the directory of one dataset is a link to a disk that is full or read-only",
    face="prefetch",
    sees="its files fail and are named; the others are copied; exit code 3",
    deadline="at once",
)
def test_a_full_disk_of_one_dataset_fails_its_own_files_only(prefetch, release, linked, small_disk):
    free = os.statvfs(small_disk)
    (small_disk / "rest").write_bytes(bytes(free.f_bavail * free.f_frsize - MIB))
    files = {f"{number}.mp4": bytes([number]) * (MIB // 4) for number in range(40)}
    release.dataset("clips", {**files, "large.mp4": b"l" * 3 * MIB})
    release.dataset("viz", {"c.jpg": b"c", "d.jpg": b"d" * 2 * MIB})
    done = prefetch("-y", "--no-metadata", "--datasets", "clips", "viz", code=ExitCode.PARTIAL)
    assert "no space left on device" in done.stderr
    assert (linked.parent / "viz/d.jpg").read_bytes() == b"d" * 2 * MIB
    (small_disk / "rest").unlink()
    prefetch("-y", "--no-metadata", "--datasets", "clips", "viz")
    assert (linked / "large.mp4").read_bytes() == b"l" * 3 * MIB


def test_an_official_record_that_may_not_be_written_stops_no_run(bench, monkeypatch, caplog):
    def write_atomic(self, name, _content, **_times):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(self.path / name))

    bench.put(a=b"a" * 70)
    monkeypatch.setattr(Folder, "write_atomic", write_atomic)
    report = bench.fetch()
    assert report.stopped_by is None
    assert report.counts[Status.DONE] == 1
    assert "manifest.ver" in caplog.text
    assert bench.plan().count(State.RIGHT) == 1
