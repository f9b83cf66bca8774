"""`read_many`: ranges of many files in one call, with one request for each unknown object."""

from __future__ import annotations

import errno
import os
import threading
from collections import Counter
from collections.abc import Iterator

import fsspec
import obstore
import pytest

from ego4dfs.blocks import BLOCK_SIZE
from ego4dfs.errors import ConfigError
from ego4dfs.filesystem import Ego4DFileSystem
from kit import media
from kit.cli import run_cli
from kit.data import seeded
from kit.processes import wait_until
from kit.server import SHARING

COUNT = 300
SMALL = {f"{number:03}.pt": seeded(f"small {number}", 100 + number) for number in range(COUNT)}
LARGE = seeded("large", 5 * BLOCK_SIZE + 77)
FILES = {**SMALL, "large.pt": LARGE, "empty.pt": b""}


@pytest.fixture
def options(licensee, release) -> dict[str, object]:
    release.dataset("slowfast8x8_r101_k400", FILES)
    return {"version": release.version, "datasets": ["slowfast8x8_r101_k400"], "metadata": False}


@pytest.fixture
def fs(options) -> Iterator[Ego4DFileSystem]:
    opened = fsspec.filesystem("ego4d", **options, skip_instance_cache=True)
    yield opened
    opened.close()


@pytest.fixture
def top(release) -> str:
    return f"{release.version}/slowfast8x8_r101_k400"


def requests(fs: Ego4DFileSystem) -> tuple[int, int]:
    """Return how many HEAD and GET requests there were for objects."""
    counts = fs.vfs.session.metrics.requests
    return counts["head"], counts["get"]


def whole(top: str) -> list[tuple[str, None, None, str]]:
    return [(f"{top}/{name}", None, None, name) for name in SMALL]


@pytest.mark.parametrize("ordered", [True, False])
def test_an_unknown_small_object_costs_one_get(fs, top, ordered):
    wanted = whole(top)
    found = list(fs.read_many(wanted, ordered=ordered))
    assert all(data == SMALL[item[3]] for item, data in found)
    assert ([item for item, _ in found] == wanted) or not ordered
    assert Counter(item for item, _ in found) == Counter(wanted)
    assert requests(fs) == (0, COUNT)
    assert fs.vfs.session.metrics.snapshot()["bytes_served"] == sum(map(len, SMALL.values()))


def test_what_was_read_costs_nothing_again_not_even_in_another_process(fs, top, options):
    list(fs.read_many(whole(top)))
    before = requests(fs)
    assert [data for _, data in fs.read_many(whole(top))] == list(SMALL.values())
    assert requests(fs) == before
    fs.vfs.session.cache.close()
    other = fsspec.filesystem("ego4d", **options, skip_instance_cache=True)
    assert [data for _, data in other.read_many(whole(top))] == list(SMALL.values())
    assert requests(other) == (0, 0)
    other.close()


def test_facts_are_on_disk_when_an_iteration_ends(fs, top):
    """A worker of a DataLoader ends without closing anything."""
    found = fs.read_many(whole(top)[:5])
    next(found)
    found.close()
    url = fs.info(f"{top}/000.pt")["s3_uri"]
    assert url in fs.vfs.session.facts._table.facts([url])


RANGES = [
    (None, None),
    (0, 10),
    (10, 10),
    (5, 2),
    (-10, None),
    (-10, -3),
    (BLOCK_SIZE - 5, BLOCK_SIZE + 5),
    (2 * BLOCK_SIZE, 3 * BLOCK_SIZE),
    (BLOCK_SIZE + 3, None),
    (5 * BLOCK_SIZE, None),
    (len(LARGE) + 5, len(LARGE) + 9),
    (100, -100),
    (0, 10**12),
]


@pytest.mark.parametrize("is_known", [False, True])
def test_a_range_is_the_slice_of_the_bytes(fs, top, release, is_known):
    """Each range is read from objects of its own, so that nothing is known of them."""
    large, small = FILES["large.pt"], FILES["007.pt"]
    kinds = {"l": large, "s": small, "e": b""}
    files = {f"{kind}{n}.pt": kinds[kind] for n in range(len(RANGES)) for kind in kinds}
    release.dataset("slowfast8x8_r101_k400", files)
    if is_known:
        fs.ls(top)
    wanted = [(f"{top}/{name}", *RANGES[int(name[1:-3])], name) for name in files]
    for (_, start, stop, name), data in fs.read_many(wanted):
        assert data == files[name][start:stop], (name, start, stop)


def test_a_range_of_a_large_unknown_object_costs_one_block(fs, top):
    at = 3 * BLOCK_SIZE + 1000
    [(_, data)] = fs.read_many([(f"{top}/large.pt", at, at + 1000)])
    assert data == LARGE[at : at + 1000]
    assert requests(fs) == (0, 1)
    assert fs.vfs.session.metrics.snapshot()["bytes_fetched"] == BLOCK_SIZE


def test_a_range_of_a_large_known_object_costs_its_parts(fs, top):
    fs.info(f"{top}/large.pt")
    at = 3 * BLOCK_SIZE + 1000
    list(fs.read_many([(f"{top}/large.pt", at, at + 1000)]))
    assert fs.vfs.session.metrics.snapshot()["bytes_fetched"] <= BLOCK_SIZE // 4


def test_no_other_file_of_the_directory_is_read_ahead(fs, top):
    fs.ls(top)
    heads, _ = requests(fs)
    list(fs.read_many(whole(top)[:100]))
    fs.vfs.session.reader.close()  # waits for requests
    assert requests(fs) == (heads, 100)


def test_urls_and_files_that_are_no_objects_are_read_too(fs, top):
    wanted = [(f"ego4d://{top}/001.pt", None, None), (f"{top}/manifest.csv", 0, 9)]
    assert [data for _, data in fs.read_many(wanted)] == [SMALL["001.pt"], b"video_uid"]


def test_each_range_has_its_own_error(fs, top, server, release):
    key = f"public/{release.version}/objects/slowfast8x8_r101_k400/003.pt"
    obstore.delete(server.store(SHARING), key)
    wanted = [(f"{top}/{name}", None, None) for name in ("001.pt", "none.pt", "003.pt", "004.pt")]
    wanted.append((top, None, None))
    wanted.append((f"{top}/004.pt/x", None, None))
    found = [data for _, data in fs.read_many(wanted, on_error="return")]
    assert (found[0], found[3]) == (SMALL["001.pt"], SMALL["004.pt"])
    assert [type(error) for error in found[1:2] + found[4:]] == [
        FileNotFoundError,
        IsADirectoryError,
        NotADirectoryError,
    ]
    assert isinstance(found[2], OSError)
    assert found[2].errno in {errno.EACCES, errno.ENOENT}
    left = [item for item, _ in fs.read_many(wanted, on_error="omit")]
    assert left == [wanted[0], wanted[3]]
    several = fs.read_many(wanted)
    next(several)
    with pytest.raises(FileNotFoundError, match=r"none\.pt") as caught:
        next(several)
    wait_until(lambda: not any(thread.name == "read-many" for thread in threading.enumerate()))
    assert caught.value.errno == errno.ENOENT  # it is kept, and keeps no thread


def test_wrong_arguments_are_errors_at_the_call(fs):
    with pytest.raises(ConfigError, match="one of raise, return, omit"):
        fs.read_many([], on_error="ignore")
    with pytest.raises(ConfigError, match="at least 1"):
        fs.read_many([], max_bytes=0)


def test_copies_are_read_and_not_the_store(options, top, tmp_path, release):
    root = tmp_path / "copies"
    words = ("--version", release.version, "--datasets", "slowfast8x8_r101_k400", "--no-metadata")
    run_cli("prefetch", "-y", "-o", str(root), *words)
    fs = fsspec.filesystem("ego4d", **options, copies=str(root), skip_instance_cache=True)
    assert [data for _, data in fs.read_many(whole(top))] == list(SMALL.values())
    assert requests(fs) == (0, 0)
    fs.close()


def test_an_object_that_was_replaced_is_read_as_it_is_now(fs, top, server, release):
    fs.ls(top)
    key = f"public/{release.version}/objects/slowfast8x8_r101_k400/005.pt"
    server.put(SHARING, key, b"another version")
    [(_, data)] = fs.read_many([(f"{top}/005.pt", None, None)])
    assert data == b"another version"


def test_a_filesystem_that_is_closed_meanwhile_is_an_error_of_the_ranges(fs, top):
    found = fs.read_many(whole(top), on_error="return")
    next(found)
    fs.vfs.close()
    rest = list(found)
    assert len(rest) == COUNT - 1
    assert all(data == SMALL[item[3]] or isinstance(data, OSError) for item, data in rest)


def test_a_forked_child_that_inherits_an_iteration_only_ends_it(fs, top, monkeypatch):
    found = fs.read_many(whole(top))
    next(found)
    pid = os.fork()
    if not pid:
        monkeypatch.setattr(type(fs.vfs.session.facts), "flush", lambda _: os._exit(1))
        found.close()
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert len(list(found)) == COUNT - 1


def test_a_window_and_a_dataset_without_a_manifest_are_read_as_the_filesystem_reads_them(
    licensee, release
):
    release.dataset("full_scale", {"aaaa.mp4": media.form("index in front")})
    release.dataset("annotations", {"a.json": b"{}"})
    with_unknown = fsspec.filesystem(
        "ego4d", version=release.version, metadata=False, skip_instance_cache=True
    )
    window = ".ego4dfs/windows/aaaa/1-2.mp4"
    wanted = [(window, None, None), (f"{release.version}/imu/none.csv", 0, 9)]
    found = [data for _, data in with_unknown.read_many(wanted, on_error="return")]
    assert found[0] == with_unknown.cat_file(window)
    assert isinstance(found[1], OSError)
    with_unknown.close()
