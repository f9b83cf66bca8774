"""`cat` and `get` of many files: many at a time, with one request for each unknown object."""

from __future__ import annotations

import errno
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from fsspec.callbacks import Callback

from ego4dfs.blocks import BLOCK_SIZE
from ego4dfs.errors import ConfigError, StoreUnavailable
from ego4dfs.filesystem import Ego4DFileSystem
from ego4dfs.vfs import VFS
from kit.data import seeded
from kit.processes import wait_until

pytestmark = pytest.mark.first_pass

DATASET = "slowfast8x8_r101_k400"
COUNT = 100
SMALL = {f"{number:03}.pt": seeded(f"many {number}", 100 + number) for number in range(COUNT)}
LARGE = seeded("many large", 3 * BLOCK_SIZE + 77)
FILES = {**SMALL, "empty.pt": b"", "large.pt": LARGE}
SMALL_PATTERN = "[0-9]*.pt"


@pytest.fixture
def fs(front, release, open_fs) -> Ego4DFileSystem:
    release.dataset(DATASET, FILES)
    release.dataset("annotations", {"000.pt": b"of another dataset"})
    datasets = ["annotations", DATASET]
    fs = open_fs(version=release.version, datasets=datasets, metadata=False)
    assert fs.exists(f"{release.version}/{DATASET}")  # fetches the manifest
    assert fs.exists(f"{release.version}/annotations/000.pt")
    front.reset()
    return fs


@pytest.fixture
def top(release) -> str:
    return f"{release.version}/{DATASET}"


def methods(front) -> dict[str, int]:
    return {name: count for name, count in front.methods.items() if count}


@contextmanager
def none_answered_before_nine_wait(front) -> Iterator[None]:
    """Let the first requests wait for each other, however slowly they come."""
    front.faults.gate = gate = threading.Event()
    reached: list[bool] = []

    def open_gate() -> None:
        try:
            reached.append(wait_until(lambda: front.concurrent > 8))
        finally:
            gate.set()

    opener = threading.Thread(target=open_gate)
    opener.start()
    yield
    opener.join()
    assert reached == [True]


def copied(directory: Path) -> dict[str, bytes]:
    """Return the bytes of the files that were copied, without that of the manifest."""
    return {path.name: path.read_bytes() for path in directory.iterdir() if path.suffix != ".csv"}


def test_cat_of_a_list_reads_many_files_at_a_time(fs, top, front):
    with none_answered_before_nine_wait(front):
        found = fs.cat([f"ego4d://{top}/{name}" for name in reversed(SMALL)])
    assert list(found.items()) == [(f"{top}/{name}", data) for name, data in SMALL.items()]
    assert methods(front) == {"GET": COUNT}


def test_cat_of_a_pattern_and_of_a_directory_has_all_files(fs, top):
    assert fs.cat(f"{top}/{SMALL_PATTERN}") == {f"{top}/{name}": SMALL[name] for name in SMALL}
    everything = {f"{top}/{name}": data for name, data in FILES.items()}
    assert fs.cat(top, recursive=True).items() > everything.items()
    parts = fs.cat([f"{top}/*.pt"], start=-9, end=-2)
    assert parts == {path: data[-9:-2] for path, data in everything.items()}
    assert fs.cat([f"{top}/000.pt"]) == {f"{top}/000.pt": SMALL["000.pt"]}
    assert fs.cat(f"{top}/000.pt", start=2) == SMALL["000.pt"][2:]
    with pytest.raises(FileNotFoundError):
        fs.cat(f"{top}/none*")


def test_an_error_of_cat_is_raised_returned_or_left_out(fs, top):
    wanted = [f"{top}/000.pt", f"{top}/none.pt", f"{top}/001.pt"]
    with pytest.raises(FileNotFoundError, match=r"none\.pt"):
        fs.cat(wanted)
    found = fs.cat(wanted, on_error="return")
    assert list(found) == sorted(wanted)
    assert isinstance(found.pop(wanted[1]), FileNotFoundError)
    assert found == fs.cat(wanted, on_error="omit") == {p: SMALL[p[-6:]] for p in wanted[::2]}
    with pytest.raises(IsADirectoryError):
        fs.cat([top, wanted[0]])
    with pytest.raises(ConfigError, match="on_error"):
        fs.cat(wanted, on_error="ignore")


def test_get_copies_many_files_at_a_time(fs, top, front, tmp_path):
    with none_answered_before_nine_wait(front):
        fs.get(f"{top}/{SMALL_PATTERN}", f"{tmp_path}/copies/")
    assert methods(front) == {"GET": COUNT}
    assert copied(tmp_path / "copies") == SMALL


def test_get_of_a_directory_writes_files_as_they_arrive(fs, top, front, tmp_path, monkeypatch):
    original, largest = VFS.read_into, []

    def read_into(self, handle, offset, view):
        largest.append(len(view))
        return original(self, handle, offset, view)

    monkeypatch.setattr(VFS, "read_into", read_into)
    fs.get(top, str(tmp_path / "copies"), recursive=True)
    assert copied(tmp_path / "copies") == FILES
    assert methods(front)["GET"] <= len(FILES) + len(LARGE) // BLOCK_SIZE
    assert max(largest) <= BLOCK_SIZE


def test_get_takes_a_target_for_each_file_and_objects(fs, top, tmp_path):
    targets = [str(tmp_path / "x/y/one"), (tmp_path / "two").open("wb"), tmp_path / "three"]
    sources = [f"ego4d://{top}/{name}" for name in ("000.pt", "001.pt", "large.pt")]
    fs.get(sources, targets)
    targets[1].close()
    found = [(tmp_path / name).read_bytes() for name in ("x/y/one", "two", "three")]
    assert found == [SMALL["000.pt"], SMALL["001.pt"], LARGE]


def test_of_files_with_one_target_the_last_one_is_copied(fs, top, release, tmp_path):
    paths = [f"{top}/000.pt", f"{release.version}/annotations/000.pt"]
    fs.get(paths, f"{tmp_path}/")
    assert max(paths) == paths[0]  # they are sorted
    assert (tmp_path / "000.pt").read_bytes() == SMALL["000.pt"]


def test_a_get_that_fails_leaves_complete_files_only(fs, top, tmp_path, monkeypatch):
    original = VFS.read_into

    def read_into(self, handle, offset, view):
        if offset:
            raise StoreUnavailable("no answer")
        return original(self, handle, offset, view)

    monkeypatch.setattr(VFS, "read_into", read_into)
    with pytest.raises(OSError, match="no answer") as caught:
        fs.get(top, str(tmp_path / "copies"), recursive=True)
    assert caught.value.errno == errno.EIO
    assert caught.value.filename == f"{top}/large.pt"
    found = copied(tmp_path / "copies")  # no copy goes on
    assert found.items() <= SMALL.items() | {"empty.pt": b""}.items()
    with pytest.raises(FileNotFoundError, match="none"):
        fs.get([f"{top}/none.pt"], f"{tmp_path}/")


class Calls(Callback):
    """Notes the calls of itself and of its branches; two at one moment are an error."""

    def __init__(self, top: Calls | None = None) -> None:
        super().__init__()
        self.top = top or self
        self.counts: Counter[str] = Counter()
        self._is_called = threading.Lock()

    def note(self, name: str) -> None:
        assert self.top._is_called.acquire(blocking=False)
        time.sleep(0.0005)
        self.top.counts[name] += 1
        self.top._is_called.release()

    def branched(self, *_: object, **__: object) -> Calls:
        self.note("branched")
        return Calls(self.top)

    def set_size(self, size: int) -> None:
        self.note("set_size")
        super().set_size(size)

    def relative_update(self, inc: int = 1) -> None:
        self.note("update" if self.top is self else "bytes")
        super().relative_update(inc)

    def close(self) -> None:
        self.note("close")


def test_the_calls_of_a_callback_are_one_at_a_time(fs, top, tmp_path):
    calls = Calls()
    fs.get(f"{top}/{SMALL_PATTERN}", f"{Path(tmp_path)}/copies/", callback=calls)
    assert (calls.size, calls.value) == (COUNT, COUNT)
    assert calls.counts == {
        "set_size": COUNT + 1,
        "branched": COUNT,
        "bytes": COUNT,
        "update": COUNT,
        "close": COUNT,
    }
