"""Reads of videos: the index is fetched at the open, and groups of pictures after seeks."""

from __future__ import annotations

import math
from collections.abc import Callable
from types import SimpleNamespace

import pytest

from ego4dfs.blocks import PART_SIZE, ObjectRef
from ego4dfs.errors import ObjectChanged
from ego4dfs.facts import MediaFacts
from ego4dfs.media import read_index
from ego4dfs.mount.operations import Operations
from ego4dfs.reader import FIRST_AT_START
from ego4dfs.vfs import VFS, Handle, video_facts
from ego4dfs.vfs.video import current
from ego4dfs.vfs.window_file import WindowFile
from kit import media
from kit.data import MIB
from kit.processes import wait_until

SECONDS = 40
KERNEL = 128 << 10
VIDEOS = {
    f"{place}{number}.mp4": media.long_video(SECONDS, 2 * number + (place == "end"))
    for place in ("front", "end")
    for number in range(2)
}
FACTS = {
    name: MediaFacts.of(read_index(len(data), lambda at, length, data=data: data[at : at + length]))
    for name, data in VIDEOS.items()
}
PLACES = pytest.mark.parametrize("place", ["front", "end"])
Open = Callable[[], VFS]


@pytest.fixture
def open_vfs(open_tree, release) -> Open:
    release.dataset("full_scale", {**VIDEOS, "damaged.mp4": media.long_video(SECONDS, 9)[:-500]})
    return lambda: open_tree(version=release.version, datasets=["full_scale"], metadata=False)


@pytest.fixture
def top(release) -> str:
    return f"{release.version}/full_scale"


def gets(vfs: VFS) -> int:
    return int(vfs.session.metrics.requests["get"])


def quiet(vfs: VFS) -> None:
    """Wait until nothing is being fetched."""
    wait_until(lambda: vfs.session.reader.downloads.in_flight == 0)


def read(vfs: VFS, handle: Handle, start: int, stop: int) -> bytes:
    """Read as a kernel does."""
    steps = range(start, stop, KERNEL)
    data = b"".join(vfs.read(handle, at, min(KERNEL, stop - at)) for at in steps)
    quiet(vfs)
    return data


def opened(vfs: VFS, path: str) -> Handle:
    """Open a video and read its index, as a program does."""
    handle = vfs.open(path)
    facts = FACTS[path.rpartition("/")[2]]
    read(vfs, handle, 0, KERNEL)
    read(vfs, handle, facts.index.start, facts.index.stop)
    return handle


def fetched(vfs: VFS, handle: Handle, start: int, stop: int) -> int:
    before = vfs.session.metrics.bytes_fetched
    data = VIDEOS[handle.path.rpartition("/")[2]]
    assert read(vfs, handle, start, stop) == data[start:stop]
    return int(vfs.session.metrics.bytes_fetched - before)


def ref_of(handle: Handle) -> ObjectRef:
    assert handle.ref is not None
    return handle.ref


@PLACES
def test_a_seek_fetches_one_group_and_the_next_by_halves(open_vfs, top, place):
    vfs = open_vfs()
    handle, facts = opened(vfs, f"{top}/{place}0.mp4"), FACTS[f"{place}0.mp4"]
    start, stop = facts.starts[4], facts.stops[4]
    before = gets(vfs)
    group = fetched(vfs, handle, start, start + KERNEL)
    assert stop - start <= group <= stop - start + 2 * PART_SIZE
    assert gets(vfs) - before in {3, 4}
    assert fetched(vfs, handle, start + KERNEL, stop) == 0
    half = fetched(vfs, handle, stop, stop + 2 * KERNEL)
    assert half <= (facts.stops[5] - stop) / 2 + 2 * PART_SIZE


@PLACES
def test_the_index_of_the_next_video_is_fetched_when_it_is_opened(open_vfs, top, place):
    vfs = open_vfs()
    fetched(vfs, opened(vfs, f"{top}/{place}0.mp4"), FACTS[f"{place}0.mp4"].starts[3], 7 * MIB)
    path = f"{top}/{place}1.mp4"
    vfs.stat(path)
    before = gets(vfs)
    handle, index = vfs.open(path), FACTS[f"{place}1.mp4"].index
    quiet(vfs)
    assert gets(vfs) - before == (1 if place == "front" else 2)
    assert (
        read(vfs, handle, index.start, index.stop)
        == VIDEOS[f"{place}1.mp4"][index.start : index.stop]
    )
    assert gets(vfs) - before == (1 if place == "front" else 2)


def test_the_place_of_indexes_is_known_to_the_next_process(open_vfs, top):
    vfs = open_vfs()
    fetched(vfs, opened(vfs, f"{top}/end0.mp4"), FACTS["end0.mp4"].starts[3], 7 * MIB)
    vfs.close()
    again = open_vfs()
    again.open(f"{top}/end1.mp4")
    quiet(again)
    assert gets(again) == 2


def test_what_is_known_of_a_video_is_used_by_the_next_process(open_vfs, top):
    """Only its own index is fetched when it is opened, wherever other videos have theirs."""
    vfs = open_vfs()
    for name in ("end0.mp4", "front0.mp4"):
        fetched(vfs, opened(vfs, f"{top}/{name}"), FACTS[name].starts[3], 7 * MIB)
    vfs.session.cache.admin.clear()
    vfs.close()
    again = open_vfs()
    again.open(f"{top}/end0.mp4")
    quiet(again)
    assert gets(again) == 1
    handle = opened(again, f"{top}/end0.mp4")
    assert gets(again) == 2
    start, stop = FACTS["end0.mp4"].starts[6], FACTS["end0.mp4"].stops[6]
    assert fetched(again, handle, start, start + KERNEL) <= stop - start + 2 * PART_SIZE
    opened(again, f"{top}/front0.mp4")
    assert gets(again) - 2 in {4, 5}


def test_nothing_is_fetched_at_an_open_of_what_is_cached(open_vfs, top):
    vfs = open_vfs()
    for _ in range(2):
        handle = opened(vfs, f"{top}/end0.mp4")
        fetched(vfs, handle, FACTS["end0.mp4"].starts[3], FACTS["end0.mp4"].starts[3] + KERNEL)
    before = gets(vfs)
    vfs.open(f"{top}/end0.mp4")
    quiet(vfs)
    assert gets(vfs) == before


def test_other_files_are_opened_as_before(open_vfs, top, release):
    release.dataset("full_scale", {**VIDEOS, "features.pt": bytes(3 * MIB)})
    vfs = open_vfs()
    fetched(vfs, opened(vfs, f"{top}/end0.mp4"), FACTS["end0.mp4"].starts[3], 7 * MIB)
    before = gets(vfs)
    vfs.open(f"{top}/features.pt")
    quiet(vfs)
    assert gets(vfs) == before + 1


def test_a_video_without_a_usable_index_is_read_as_other_files_are(open_vfs, top):
    vfs = open_vfs()
    handle = vfs.open(f"{top}/damaged.mp4")
    data = media.long_video(SECONDS, 9)[:-500]
    for start in (0, len(data) - MIB, 5 * MIB, 9 * MIB):
        assert read(vfs, handle, start, start + MIB) == data[start : start + MIB]
    assert vfs.session.facts.media.get(ref_of(handle).url, handle.size, handle.etag) is None


def test_an_index_that_is_too_long_is_not_parsed(open_vfs, top, monkeypatch):
    monkeypatch.setattr(video_facts, "MAX_INDEX_BYTES", 1000)
    vfs = open_vfs()
    handle = opened(vfs, f"{top}/front0.mp4")
    fetched(vfs, handle, 7 * MIB, 8 * MIB)
    assert vfs.session.facts.media.get(ref_of(handle).url, handle.size, handle.etag) is None


def test_facts_of_another_version_are_not_used(open_vfs, top, release):
    vfs = open_vfs()
    fetched(vfs, opened(vfs, f"{top}/end0.mp4"), FACTS["end0.mp4"].starts[3], 7 * MIB)
    vfs.close()
    release.put("full_scale/end0.mp4", VIDEOS["front1.mp4"])
    again = open_vfs()
    handle = again.open(f"{top}/end0.mp4")
    with pytest.raises(ObjectChanged):
        again.read(handle, 15 * MIB, KERNEL)
    handle = again.open(f"{top}/end0.mp4")
    for start in (0, 9 * MIB, 3 * MIB):
        assert read(again, handle, start, start + MIB) == VIDEOS["front1.mp4"][start : start + MIB]
    facts = again.session.facts.media.get(ref_of(handle).url, handle.size, handle.etag)
    assert facts is not None
    assert facts.index == FACTS["front1.mp4"].index


def test_only_so_many_facts_are_kept_in_memory(open_vfs, top, monkeypatch):
    monkeypatch.setattr(video_facts, "_MAX_KEPT", 1)
    vfs = open_vfs()
    indexes = video_facts.VideoFacts(vfs.session.facts.media, vfs.session.reader)
    handles = [opened(vfs, f"{top}/{name}") for name in ("end0.mp4", "front0.mp4")]
    for handle in (*handles, *handles):
        found = indexes.find(ref_of(handle))
        assert found is not None
        assert found.index == FACTS[handle.path.rpartition("/")[2]].index


def test_a_mount_imports_the_parser_when_a_video_is_first_opened(open_vfs, top, monkeypatch):
    names: list[str] = []
    monkeypatch.setattr(video_facts.importlib, "import_module", names.append)
    operations = Operations(open_vfs(), lambda: None)
    video_facts.import_parser.cache_clear()
    operations.open(f"/{top}/manifest.csv", SimpleNamespace())
    assert not names
    for _ in range(2):
        operations.open(f"/{top}/end0.mp4", SimpleNamespace())
    wait_until(lambda: bool(names))
    assert names == ["ego4dfs.media"]


@PLACES
def test_a_window_and_the_index_are_requested_at_once_if_the_place_of_both_is_recorded(
    open_vfs, top, place
):
    """Nothing waits for the answer to another request."""
    vfs = open_vfs()
    path = f"{top}/{place}0.mp4"
    fetched(vfs, opened(vfs, path), FACTS[f"{place}0.mp4"].starts[3], 7 * MIB)
    vfs.session.cache.admin.clear()
    vfs.close()
    again = open_vfs()
    handle = again.open(path, first_offset=0)
    index = read_index(handle.size, lambda at, length: VIDEOS[f"{place}0.mp4"][at : at + length])
    again.video_facts.request_window(ref_of(handle), 20.5, 22.5)
    quiet(again)
    requested = again.session.metrics.bytes_fetched
    needed = sum(map(len, index.byte_ranges(20.5, 22.5)))
    assert requested <= 1.1 * needed + 4 * PART_SIZE
    video = current(again, path, lambda file: (file, file.cut(20.5, 22.5)))
    window = WindowFile(*video)
    assert len(window.read(0, window.size)) == window.size
    # The start of the file, and at most the end of the window.
    assert again.session.metrics.bytes_fetched - requested <= FIRST_AT_START + PART_SIZE


@pytest.mark.parametrize("window", [(2.0, 1.0), (-1.0, 2.0), (0.0, math.inf), (math.nan, 3.0)])
def test_what_is_no_window_is_not_requested(open_vfs, top, window):
    vfs = open_vfs()
    handle = opened(vfs, f"{top}/end0.mp4")
    fetched(vfs, handle, FACTS["end0.mp4"].starts[3], 7 * MIB)
    before = gets(vfs)
    vfs.video_facts.request_window(ref_of(handle), *window)
    vfs.video_facts.request_window(ref_of(handle), 0.0, 39.0)  # more than one request
    assert gets(vfs) == before
