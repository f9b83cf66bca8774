"""How the facts of an object that a kernel looks up are requested: HEAD, GET, or a sweep."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor

import pytest

from ego4dfs.blocks import BLOCK_SIZE
from ego4dfs.reader import FIRST_AT_START
from ego4dfs.vfs import VFS, BatchReads
from ego4dfs.vfs.lookups import MAX_UNOPENED, SWEEP_AT_WAITED, FirstRequest, Lookups
from kit.data import seeded
from kit.processes import wait_until

COUNT = 200
SIZE = 10_000
FILES = {f"{number:03}.pt": seeded(str(number), SIZE) for number in range(COUNT)}
HEAD = FirstRequest(gets_bytes=False, sweeps=False)
GET = FirstRequest(gets_bytes=True, sweeps=False)
SWEEP = FirstRequest(gets_bytes=False, sweeps=True)


@pytest.fixture
def vfs(open_tree, release):
    release.dataset("annotations", FILES)
    return open_tree(version=release.version, datasets=["annotations"], metadata=False)


@pytest.fixture
def top(release) -> str:
    return f"{release.version}/annotations"


def requests(vfs: VFS) -> tuple[int, int]:
    counts = vfs.session.metrics.requests
    return counts["head"], counts["get"]


def use(vfs: VFS, path: str, caller: int) -> bytes:
    """Look up, open and read a file as a kernel does for a program."""
    size = vfs.stat(path, caller).size
    return vfs.read(vfs.open(path), 0, size)


@pytest.mark.parametrize("caller", [None, 7])
@pytest.mark.parametrize("count", [1, 2, 3, 4, 9, 16])
def test_a_directory_is_swept_at_lookups_2_4_8_and_so_on_of_a_walk(caller, count):
    lookups = Lookups()
    found = [lookups.add(f"v2/features/{number}.pt", caller) for number in range(count)]
    assert found[-1] == (SWEEP if count in {2, 4, 16} else HEAD)


def test_a_program_that_looks_up_one_file_again_and_again_walks_nothing():
    lookups = Lookups()
    assert {lookups.add("v2/features/a.pt", 7) for _ in range(100)} == {HEAD}


def test_lookups_cost_a_get_once_an_open_has_followed_one():
    lookups = Lookups()
    assert lookups.add("d/a", 1) == HEAD
    lookups.opened("d/a")
    assert lookups.add("d/b", 1) == GET
    assert lookups.add("d/c", 2) == GET  # another program
    assert lookups.add("other/a", 1) == HEAD


def test_a_walk_costs_heads_again():
    lookups = Lookups()
    lookups.add("d/a", 1)
    lookups.opened("d/a")
    assert [lookups.add(f"d/{name}", 2) for name in "bcdef"] == [GET, SWEEP, HEAD, SWEEP, HEAD]


def test_an_open_without_a_lookup_says_nothing():
    lookups = Lookups()
    lookups.opened("d/a")
    lookups.add("d/b", 1)
    lookups.opened("d/a")
    assert lookups.add("d/c", 2) == HEAD


def test_many_programs_that_look_up_one_file_each_walk_the_directory():
    lookups = Lookups()
    found = [lookups.add(f"d/{caller}", caller) for caller in range(MAX_UNOPENED + 1)]
    assert found[-1] == SWEEP


def test_a_directory_is_swept_when_many_lookups_had_to_wait():
    lookups = Lookups()
    found = []
    for number in range(2 * SWEEP_AT_WAITED):
        found.append(lookups.add(f"d/{number}", 1))
        lookups.opened(f"d/{number}")
    assert [number + 1 for number, request in enumerate(found) if request.sweeps] == [16, 32]
    assert all(request.gets_bytes for request in found[1:])


def test_a_directory_is_not_swept_if_few_opens_had_to_wait():
    lookups = Lookups()
    for number in range(300):
        if number % 5 == 0:
            assert not lookups.add(f"d/{number}", 1).sweeps
        lookups.opened(f"d/{number}")


def test_two_programs_that_open_the_same_file_do_not_walk():
    lookups = Lookups()
    for name in "abcd":
        found = {lookups.add(f"d/{name}", caller) for caller in (1, 2)}
        assert not any(request.sweeps for request in found)
        lookups.opened(f"d/{name}")


def read_all(vfs: VFS, top: str, names: list[str], workers: int) -> None:
    def work(number: int) -> None:
        for name in names[number::workers]:
            assert use(vfs, f"{top}/{name}", number) == FILES[name]
            assert vfs.session.facts._sweeps.wait(30)  # as if the server were near

    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(work, range(workers)))


@pytest.mark.parametrize("workers", [1, 4])
def test_small_files_that_are_opened_in_order_cost_one_request_each(vfs, top, workers):
    read_all(vfs, top, list(FILES), workers)
    heads, gets = requests(vfs)
    assert heads <= workers
    assert heads + gets <= 1.1 * COUNT
    assert vfs.session.metrics.bytes_fetched == COUNT * SIZE


def test_files_whose_read_ahead_has_not_begun_yet_cost_one_request_each(vfs, top, monkeypatch):
    def never_begins(url, fetch, done):
        done()
        return True

    monkeypatch.setattr(vfs.session.facts, "fetch_ahead", never_begins)
    for name in FILES:
        use(vfs, f"{top}/{name}", 1)
    assert requests(vfs) == (1, COUNT)
    assert vfs.session.metrics.bytes_fetched == COUNT * SIZE


@pytest.mark.parametrize("workers", [1, 16])
def test_small_files_that_are_opened_at_random_cost_two_requests_each_at_most(vfs, top, workers):
    read_all(vfs, top, random.Random(3).sample(list(FILES), COUNT), workers)
    heads, gets = requests(vfs)
    assert heads <= COUNT
    assert gets == COUNT
    assert vfs.session.metrics.bytes_fetched == COUNT * SIZE


def test_one_small_file_costs_nothing_of_its_neighbours(vfs, top):
    for _ in range(3):
        use(vfs, f"{top}/007.pt", 1)
    assert requests(vfs) == (1, 1)


def test_a_walk_of_a_directory_fetches_no_bytes(vfs, top):
    for name in FILES:
        vfs.stat(f"{top}/{name}", 1)
    wait_until(lambda: vfs.known_totals().objects == COUNT)
    assert requests(vfs) == (COUNT, 0)


def test_an_open_of_an_unknown_object_costs_one_request(vfs, top):
    handle = vfs.open(f"{top}/007.pt")
    assert vfs.read(handle, 0, SIZE) == FILES["007.pt"]
    assert requests(vfs) == (0, 1)


def test_the_first_request_for_a_large_file_fetches_no_more_than_its_first_read(open_tree, release):
    release.dataset("clips", {name: seeded(name, 3 * BLOCK_SIZE) for name in ("a.mp4", "b.mp4")})
    vfs = open_tree(version=release.version, datasets=["clips"], metadata=False)
    for name in ("a.mp4", "b.mp4"):
        path = f"{release.version}/clips/{name}"
        vfs.stat(path, 1)
        assert len(vfs.read(vfs.open(path), 0, 100)) == 100
    wait_until(lambda: not vfs.session.reader.downloads.in_flight)
    assert requests(vfs) == (1, 2)
    assert vfs.session.metrics.bytes_fetched == 2 * FIRST_AT_START


def test_an_empty_object_that_is_opened_has_size_0(open_tree, release):
    release.dataset("annotations", {"a.json": b"1", "b.json": b"", "c.json": b"333"})
    vfs = open_tree(version=release.version, datasets=["annotations"], metadata=False)
    found = [use(vfs, f"{release.version}/annotations/{n}.json", 1) for n in "abc"]
    assert found == [b"1", b"", b"333"]


def test_a_missing_object_is_known_to_be_missing_by_the_request_of_its_lookup(open_tree, release):
    there, missing = release.put("there.pt", b"bytes"), release.url("missing.pt")
    release.manifest("clips", f"file_uid,s3_path\na,{there}\nb,{missing}\n")
    vfs = open_tree(version=release.version, datasets=["clips"], metadata=False)
    assert use(vfs, f"{release.version}/clips/there.pt", 1) == b"bytes"
    before = sum(requests(vfs))
    for _ in range(2):
        assert not vfs.stat(f"{release.version}/clips/missing.pt", 1).is_known
    assert sum(requests(vfs)) == before + 1


@pytest.mark.parametrize("face", ["mount", "open", "read_many"])
def test_the_answer_for_another_object_is_not_believed(vfs, top, face, monkeypatch):
    """A proxy that has lost its place sends the answer of the request before."""
    first, second = (f"{top}/{name}" for name in ("000.pt", "001.pt"))
    assert use(vfs, first, 1) == FILES["000.pt"]
    store, late = vfs.session.store, [vfs.resolve(first).url]
    read_range = store.read_range
    monkeypatch.setattr(
        store,
        "read_range",
        lambda url, *place, **more: read_range(late.pop() if late else url, *place, **more),
    )
    if face == "read_many":
        found = BatchReads(vfs).read(second, None, None, lambda _size: None)
    elif face == "open":
        found = vfs.read(vfs.open(second), 0, SIZE)
    else:
        found = use(vfs, second, 1)
    assert not late
    assert found == FILES["001.pt"]


def test_equal_objects_are_believed(open_tree, release):
    release.dataset("annotations", {"a.pt": b"same", "b.pt": b"same"})
    vfs = open_tree(version=release.version, datasets=["annotations"], metadata=False)
    found = [use(vfs, f"{release.version}/annotations/{n}.pt", 1) for n in "ab"]
    assert found == [b"same", b"same"]
