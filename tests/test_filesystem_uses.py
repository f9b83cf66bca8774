"""How programs use an `ego4d://` filesystem: its description, local paths, threads, event loops."""

from __future__ import annotations

import asyncio
import errno
import io
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import fsspec
import pytest
from fsspec.callbacks import Callback
from fsspec.implementations.asyn_wrapper import AsyncFileSystemWrapper

from ego4dfs.blocks import BLOCK_SIZE
from ego4dfs.errors import StoreUnavailable
from ego4dfs.filesystem import Ego4DFileSystem
from ego4dfs.vfs import VFS
from kit.cli import run_cli
from kit.data import seeded

LARGE = seeded("uses", 2 * BLOCK_SIZE + 99)
FILES = {"large.pt": LARGE, "small.json": b"small"}


@pytest.fixture
def top(release) -> str:
    return f"{release.version}/annotations"


@pytest.fixture
def options(licensee, release) -> dict[str, object]:
    release.dataset("annotations", FILES)
    release.metadata(b"{}")
    return {"version": release.version, "datasets": ["annotations"]}


@pytest.fixture
def fs(open_fs, options):
    return open_fs(**options)


def test_a_filesystem_says_what_it_shows(licensee):
    fs = Ego4DFileSystem(
        version="v2_1",
        datasets=["clips"],
        benchmarks=["fho", "em"],
        video_uids=[f"{number:08}-0000-4000-8000-000000000000" for number in range(9)],
        include=["<b>*.mp4"],
        cache_size="1GiB",
        source="https://user:secret@host/mirror",
    )
    text, html = repr(fs), fs._repr_html_()
    assert text == str(fs)
    for shown in ("v2_1", "clips", "fho em", "9 values", os.environ["EGO4DFS_CACHE_DIR"], "host"):
        assert shown in text
        assert shown in html
    assert "secret" not in text + html
    assert "<b>" in text
    assert "&lt;b&gt;*.mp4" in html
    assert "datasets: all" in repr(Ego4DFileSystem())
    assert fs._opened is None


def test_a_local_path_is_that_of_a_copy(options, top, tmp_path):
    copies = tmp_path / "copies"
    run_cli("prefetch", "-o", str(copies), "--yes", "--version", str(options["version"]),
            "--datasets", "annotations")  # fmt: skip
    with_copies = Ego4DFileSystem(**options, copies=copies)
    path = with_copies.local_path(f"ego4d://{top}/small.json")
    assert path == str(copies / top / "small.json")
    assert Path(path).read_bytes() == b"small"
    with_copies.close()


def test_a_local_path_is_one_in_a_mount_that_shows_the_same_version(
    fs, options, top, mount, release
):
    with pytest.raises(OSError, match="ego4dfs mount") as raised:
        fs.local_path(f"{top}/small.json")
    assert (raised.value.errno, raised.value.filename) == (errno.ENOTSUP, f"{top}/small.json")
    mountpoint = mount("--version", release.version, "--datasets", "annotations")
    assert fs.local_path(f"{top}/large.pt") == str(mountpoint / top / "large.pt")
    for missing in ("nothing", "manifest.csv"):
        with pytest.raises(OSError, match=missing):
            fs.local_path(f"{top}/{missing}")
    with pytest.raises(IsADirectoryError):
        fs.local_path(top)
    assert (mountpoint / top / "small.json").read_bytes() == b"small"
    release.put("annotations/small.json", b"other")
    newer = Ego4DFileSystem(**options, cache_dir=mountpoint.parent / "another cache")
    with pytest.raises(OSError, match="ego4dfs mount"):  # the mount still shows the old one
        newer.local_path(f"{top}/small.json")
    newer.close()


class Progress(Callback):
    """Collects the sizes and the steps that are reported, of this one and of its branches."""

    def __init__(self) -> None:
        super().__init__()
        self.branches: list[Progress] = []

    def branched(self, *_: object, **__: object) -> Progress:
        self.branches.append(Progress())
        return self.branches[-1]


def test_get_reports_its_progress(fs, top, tmp_path):
    progress = Progress()
    fs.get([f"{top}/{name}" for name in FILES], str(tmp_path), callback=progress)
    assert (progress.size, progress.value) == (len(FILES), len(FILES))
    found = sorted((each.size, each.value) for each in progress.branches)
    assert found == sorted((len(data), len(data)) for data in FILES.values())


def test_a_get_that_fails_leaves_no_part_of_a_file(fs, top, tmp_path, monkeypatch):
    """And a file that was there stays as it was."""
    original = VFS.read_into

    def read_into(self, handle, offset, view):
        if offset or len(view) > BLOCK_SIZE:
            raise StoreUnavailable("no answer")
        return original(self, handle, offset, view)

    directory = tmp_path / "local"
    directory.mkdir()
    (directory / "old").write_bytes(b"old")
    monkeypatch.setattr(VFS, "read_into", read_into)
    for name in ("new", "old"):
        with pytest.raises(OSError, match="no answer"):
            fs.get_file(f"{top}/large.pt", directory / name)
    with pytest.raises(FileNotFoundError):
        fs.get_file(f"{top}/nothing", str(directory / "old"))
    assert [(found.name, found.read_bytes()) for found in directory.iterdir()] == [("old", b"old")]


def test_get_writes_into_what_is_not_a_regular_file(fs, top, tmp_path):
    link, target = tmp_path / "link", tmp_path / "target"
    link.symlink_to(target)
    target.write_bytes(b"old")
    fs.get_file(f"{top}/small.json", str(link))
    assert link.is_symlink()
    assert target.read_bytes() == b"small"
    fs.get_file(f"{top}/small.json", "/dev/null")
    buffer = io.BytesIO()
    fs.get_file(f"{top}/small.json", buffer)
    fs.get_file(f"{top}/small.json", None, outfile=buffer)
    assert buffer.getvalue() == 2 * b"small"
    fs.get_file(top, str(tmp_path / "directory"))
    assert (tmp_path / "directory").is_dir()


def test_a_filesystem_travels_as_json(fs, options, top):
    copy = Ego4DFileSystem.from_json(fs.to_json())
    assert copy.config == fs.config
    assert copy.cat_file(f"{top}/small.json") == b"small"
    assert Ego4DFileSystem.from_dict(fs.to_dict()) is copy  # one for each set of options
    copy.close()
    assert Ego4DFileSystem(**options, include=["*.pt"]) is not Ego4DFileSystem(**options)


def test_checksums_are_those_of_other_processes(fs, options, top):
    other = fsspec.filesystem("ego4d", **options, skip_instance_cache=True)
    for name in FILES:
        assert fs.checksum(f"{top}/{name}") == other.checksum(f"{top}/{name}")
    other.close()
    with pytest.raises(OSError, match="creation time"):
        fs.created(f"{top}/small.json")


def test_an_event_loop_uses_it_in_threads(fs, top):
    wrapped = AsyncFileSystemWrapper(fs)

    async def read() -> list[bytes]:
        calls = [asyncio.to_thread(fs.cat_file, f"{top}/large.pt", n, n + 9) for n in range(30)]
        return [*await asyncio.gather(*calls), await wrapped._cat_file(f"{top}/small.json")]

    *ranges, small = asyncio.run(read())
    assert ranges == [LARGE[number : number + 9] for number in range(30)]
    assert small == b"small"


def test_threads_share_one_filesystem_and_fetch_a_file_once(fs, top):
    def read(_: int) -> bytes:
        with fs.open(f"{top}/large.pt") as file:
            return b"".join(iter(lambda: file.read(70_000), b""))

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(read, range(16))) == {LARGE}
    assert fs.vfs.session.metrics.bytes_fetched == len(LARGE)


OUTLIVES = """
import fsspec, threading, sys
options = {"version": sys.argv[1], "datasets": ["annotations"]}
fs = fsspec.filesystem("ego4d", **options, transport="obstore")  # asyncio ends with the main thread
def read():
    threading.main_thread().join()
    with fs.open(sys.argv[2]) as file:
        size = sum(map(len, file))
    print(size, len(fs.cat_ranges([sys.argv[2]] * 2, [0, 5], [3, 9])[1]))
threading.Thread(target=read).start()
"""


def test_a_thread_that_outlives_the_main_thread_still_reads(options, top):
    command = [sys.executable, "-c", OUTLIVES, str(options["version"]), f"{top}/large.pt"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout == f"{len(LARGE)} 4\n", done.stderr
