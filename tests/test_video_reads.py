"""Reads of videos: the index is fetched at the open, and groups of pictures after seeks."""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Callable, Iterator
from functools import partial
from mmap import PAGESIZE
from types import SimpleNamespace

import pytest

from ego4dfs.blocks import PART_SIZE, ObjectRef, whole_parts
from ego4dfs.errors import MediaError, ObjectChanged
from ego4dfs.facts import IndexPlace, MediaFacts
from ego4dfs.media import read_index
from ego4dfs.mount.kernel_readahead import KernelReadahead
from ego4dfs.mount.operations import Operations
from ego4dfs.reader import FIRST_AT_START
from ego4dfs.reader.video_window import MAX_AHEAD_BYTES
from ego4dfs.reader.window import SEQUENTIAL_AFTER
from ego4dfs.vfs import VFS, Handle, last_bytes, video_facts
from ego4dfs.vfs.video import current, open_video
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


class Gets:
    """Counts GETs as they are sent; the product's counter counts them when they have ended."""

    def __init__(self, vfs: VFS, monkeypatch) -> None:
        self.count = 0
        for name in ("stream_range", "read_range"):
            counted = partial(self._counted, getattr(vfs.session.store, name))
            monkeypatch.setattr(vfs.session.store, name, counted)

    def _counted(self, call: Callable[..., object], *args: object, **options: object) -> object:
        self.count += 1
        return call(*args, **options)


SENT: dict[VFS, Gets] = {}


@pytest.fixture
def open_vfs(open_tree, release, monkeypatch) -> Iterator[Open]:
    release.dataset("full_scale", {**VIDEOS, "damaged.mp4": media.long_video(SECONDS, 9)[:-500]})

    monkeypatch.setattr(last_bytes, "WAIT_S", 60.0)  # on a busy machine, too

    def open_it() -> VFS:
        vfs = open_tree(version=release.version, datasets=["full_scale"], metadata=False)
        SENT[vfs] = Gets(vfs, monkeypatch)
        return vfs

    yield open_it
    SENT.clear()


@pytest.fixture
def top(release) -> str:
    return f"{release.version}/full_scale"


def gets(vfs: VFS) -> int:
    return SENT[vfs].count


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
def test_a_seek_fetches_most_of_a_group_and_the_rest_is_fetched_as_it_is_read(open_vfs, top, place):
    vfs = open_vfs()
    handle, facts = opened(vfs, f"{top}/{place}0.mp4"), FACTS[f"{place}0.mp4"]
    start, stop = facts.starts[4], facts.stops[4]
    most = start + (stop - start) * 3 // 4
    before = gets(vfs)
    group = fetched(vfs, handle, start // PAGESIZE * PAGESIZE, start + KERNEL)
    assert most - start <= group <= most - start + 2 * PART_SIZE
    assert gets(vfs) - before in {2, 3}
    far = most - MAX_AHEAD_BYTES
    assert fetched(vfs, handle, start + KERNEL, far) == 0
    rest = fetched(vfs, handle, far, stop + 3 * KERNEL)
    assert group + rest <= stop - start + 3 * KERNEL + MAX_AHEAD_BYTES + 2 * PART_SIZE


@PLACES
def test_the_index_of_the_next_video_is_fetched_when_it_is_opened(open_vfs, top, place):
    vfs = open_vfs()
    fetched(vfs, opened(vfs, f"{top}/{place}0.mp4"), FACTS[f"{place}0.mp4"].starts[3], 7 * MIB)
    path = f"{top}/{place}1.mp4"
    vfs.stat(path)
    before = gets(vfs)
    handle, index = vfs.open(path), FACTS[f"{place}1.mp4"].index
    quiet(vfs)
    requests = gets(vfs)
    expected = VIDEOS[f"{place}1.mp4"]
    assert read(vfs, handle, index.start, index.stop) == expected[index.start : index.stop]
    assert gets(vfs) == requests
    # At the end: the answer to one of the two requests may confirm the size before the other.
    assert read(vfs, handle, 0, KERNEL) == expected[:KERNEL]
    assert gets(vfs) - before == (1 if place == "front" else 2)


@PLACES
@pytest.mark.parametrize("number", [0, 1], ids=["recorded", "probable"])
def test_of_the_start_of_a_video_only_its_index_is_fetched_if_its_place_is_known(
    open_vfs, top, place, number
):
    """Or one part, if the index is at the end."""
    vfs = open_vfs()
    fetched(vfs, opened(vfs, f"{top}/{place}0.mp4"), FACTS[f"{place}0.mp4"].starts[3], 7 * MIB)
    vfs.session.cache.admin.clear()
    vfs.close()
    again = open_vfs()
    path = f"{top}/{place}{number}.mp4"
    handle = opened(again, path)
    needed = whole_parts([range(KERNEL), FACTS[f"{place}{number}.mp4"].index], handle.size)
    unneeded = again.session.metrics.bytes_fetched - sum(map(len, needed))
    is_suffix = place == "end" and number == 1  # its size was not known: less than a part too much
    assert 0 < unneeded < PART_SIZE if is_suffix else not unneeded
    assert gets(again) == len(needed)


@PLACES
def test_an_index_that_was_read_for_a_window_says_where_those_of_other_videos_are(
    open_vfs, top, place
):
    vfs = open_vfs()
    open_video(vfs, f"{top}/{place}0.mp4")
    quiet(vfs)
    before, name = vfs.session.metrics.bytes_fetched, f"{place}1.mp4"
    video = open_video(vfs, f"{top}/{name}")
    quiet(vfs)
    needed = whole_parts([range(KERNEL), video.index.place], len(VIDEOS[name]))
    unneeded = vfs.session.metrics.bytes_fetched - before - sum(map(len, needed))
    assert 0 < unneeded < PART_SIZE if place == "end" else not unneeded


def test_the_place_of_indexes_is_known_to_the_next_process(open_vfs, top):
    vfs = open_vfs()
    fetched(vfs, opened(vfs, f"{top}/end0.mp4"), FACTS["end0.mp4"].starts[3], 7 * MIB)
    vfs.close()
    again = open_vfs()
    opened(again, f"{top}/end1.mp4")
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
    monkeypatch.setattr(video_facts, "MAX_PARSED_BYTES", 1000)
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


def test_facts_that_do_not_fit_into_memory_are_read_from_disk(open_vfs, top, monkeypatch):
    monkeypatch.setattr(video_facts, "MAX_FACTS_BYTES", 300)  # those of one video
    vfs = open_vfs()
    media_facts, parsing = vfs.session.facts.media, threading.Lock()
    known = video_facts.VideoFacts(media_facts, vfs.session.reader, parsing)
    handles = [opened(vfs, f"{top}/{name}") for name in ("end0.mp4", "front0.mp4")]
    for handle in (*handles, *handles):
        found = known.find(ref_of(handle))
        assert found is not None
        assert found.index == FACTS[handle.path.rpartition("/")[2]].index


@pytest.mark.parametrize("error", [MediaError("damaged"), MemoryError(), ImportError("numpy")])
def test_a_failure_to_parse_an_index_fails_no_read(open_vfs, top, monkeypatch, error):
    def fail(_: object) -> None:
        raise error

    monkeypatch.setattr("ego4dfs.media.parse_index", fail)
    vfs = open_vfs()
    handle = opened(vfs, f"{top}/end0.mp4")
    assert fetched(vfs, handle, 5 * MIB, 6 * MIB)


def test_a_video_without_a_usable_index_is_parsed_once(open_vfs, top, monkeypatch):
    parsed: list[object] = []

    def fail(found: object) -> None:
        parsed.append(found)
        raise MediaError("damaged")

    monkeypatch.setattr("ego4dfs.media.parse_index", fail)
    vfs = open_vfs()
    for start in (5 * MIB, 12 * MIB):
        fetched(vfs, opened(vfs, f"{top}/end0.mp4"), start, start + KERNEL)
    assert len(parsed) == 1


def test_no_read_waits_for_the_memory_of_a_long_group(open_vfs, top, monkeypatch, release):
    video = media.long_video(60, 4, group=900)  # groups of 16 MB
    release.dataset("full_scale", {**VIDEOS, "long.mp4": video})
    vfs = open_vfs()
    handle = vfs.open(f"{top}/long.mp4")
    read(vfs, handle, 0, KERNEL)
    waits: list[int] = []
    downloads = vfs.session.reader.downloads
    fetch = downloads.fetch

    def counted(ref: ObjectRef, wanted: range, *more: object, **options: object) -> object:
        waits.append(len(wanted))
        return fetch(ref, wanted, *more, **options)

    monkeypatch.setattr(downloads, "fetch", counted)
    start = read_index(len(video), lambda at, length: video[at : at + length]).groups().starts[1]
    before = vfs.session.metrics.bytes_fetched
    assert read(vfs, handle, start, start + KERNEL) == video[start : start + KERNEL]
    assert vfs.session.metrics.bytes_fetched - before >= 11 * MIB
    assert sum(waits) <= SEQUENTIAL_AFTER + PART_SIZE


def test_only_so_much_is_fetched_in_the_belief_that_it_is_an_index(open_vfs, top, monkeypatch):
    monkeypatch.setattr(video_facts, "MAX_GUESS_BYTES", 2 * PART_SIZE)
    vfs = open_vfs()
    opened(vfs, f"{top}/end0.mp4")
    monkeypatch.setattr(
        vfs.session.facts.media,
        "places",
        lambda *_: [IndexPlace(30 * MIB, range(9 * MIB, 30 * MIB))],
    )
    path = f"{top}/end1.mp4"
    vfs.stat(path)
    before = vfs.session.metrics.bytes_fetched
    vfs.open(path)
    quiet(vfs)
    assert vfs.session.metrics.bytes_fetched - before <= FIRST_AT_START + 3 * PART_SIZE


def test_a_mount_imports_the_parser_when_a_video_is_first_opened(open_vfs, top, monkeypatch):
    names: list[str] = []
    monkeypatch.setattr(video_facts.importlib, "import_module", names.append)
    operations = Operations(open_vfs(), lambda: None, os.getpid, KernelReadahead())
    video_facts.import_parser.cache_clear()
    operations.open(f"/{top}/manifest.csv", SimpleNamespace())
    assert not names
    for _ in range(2):
        operations.open(f"/{top}/end0.mp4", SimpleNamespace())
    wait_until(lambda: bool(names))
    assert names == ["ego4dfs.media"]


def test_a_video_can_be_opened_if_no_thread_can_be_started(open_vfs, top, monkeypatch):
    def fail(_: object) -> None:
        raise RuntimeError("can't start new thread")

    video_facts.import_parser.cache_clear()
    with monkeypatch.context() as patch:
        patch.setattr(video_facts.threading.Thread, "start", fail)
        for _ in range(2):
            video_facts.import_parser()
    handle = opened(open_vfs(), f"{top}/end0.mp4")
    assert handle.size == len(VIDEOS["end0.mp4"])


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
