"""Ego4D in several processes, as the workers of a DataLoader have it, and windows read ahead."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import random
import threading
from collections.abc import Iterator

import numpy as np
import pytest

from ego4dfs import Ego4D, errors
from ego4dfs.runtime import range_locks
from kit import media
from kit.data import MIB
from kit.processes import wait_until

UID, LONG = "aaaa", "bbbb"
WAIT_S = 600.0
"""For the request of another worker: longer than a test may take."""
LONG_S = 60


@pytest.fixture
def api(release, licensee) -> Iterator[Ego4D]:
    files = {f"{UID}.mp4": media.form("vp9"), f"{LONG}.mp4": media.long_video(LONG_S, 1)}
    release.dataset("full_scale", files)
    with Ego4D(version=release.version, datasets=["full_scale"]) as opened:
        yield opened


def decode(api: Ego4D, start_s: float) -> np.ndarray:
    return api.frames(UID, start_s, start_s + 0.5)


def read(api: Ego4D, second: int) -> int:
    """Return the process, after a read of a window."""
    with api.window(LONG, second, second + 1) as file:
        assert len(file.read()) > 100_000
    return os.getpid()


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_workers_decode_what_their_parent_decodes(api, method):
    """The parent has opened its session, and has threads, when the workers start."""
    starts = [number / 4 for number in range(12)]
    wanted = [decode(api, start) for start in starts]
    with multiprocessing.get_context(method).Pool(2) as pool:
        found = pool.starmap_async(decode, [(api, start) for start in starts]).get(120)
        assert len(set(pool.starmap_async(read, [(api, n) for n in range(8)]).get(120))) <= 2
    assert all(map(np.array_equal, found, wanted))
    assert np.array_equal(decode(api, 1), wanted[4])


INHERITED: list[Ego4D] = []  # by a worker


def read_window(uid: str, start_s: int, end_s: int) -> bytes:
    with INHERITED[0].window(uid, start_s, end_s) as file:
        return file.read()


def test_four_workers_fetch_what_one_process_fetches(front, release, tmp_path, monkeypatch):
    """Windows overlap in their groups of pictures, and are read in a random order."""
    for name in ("WAIT_S", "NAME_WAIT_S"):  # of the forked workers, on a busy machine, too
        monkeypatch.setattr(range_locks, name, WAIT_S)
    release.dataset("full_scale", {f"{n}.mp4": media.long_video(40, n) for n in range(3)})
    windows = [(str(n % 3), start, start + 2) for start in range(0, 36, 2) for n in range(3)]
    random.Random(0).shuffle(windows)
    found, sent = [], []
    for name, workers in (("one", 1), ("four", 4)):
        front.reset()
        options = {"version": release.version, "datasets": ["full_scale"]}
        with Ego4D(**options, cache_dir=tmp_path / name) as api:
            context = multiprocessing.get_context("fork")
            with context.Pool(workers, INHERITED.append, (api,)) as pool:
                found.append(pool.starmap_async(read_window, windows, chunksize=1).get(120))
        sent.append(front.bytes_sent)
    assert found[0] == found[1]
    assert sent[1] <= 1.02 * sent[0]


def test_a_forked_child_that_inherits_one_opens_its_own_session(api):
    wanted = decode(api, 1)
    parent = api.fs.vfs
    pid = os.fork()
    if not pid:
        is_right = np.array_equal(decode(api, 1), wanted) and api.fs.vfs is not parent
        os._exit(0 if is_right else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert api.fs.vfs is parent


def test_an_open_window_says_that_it_is_of_another_process(api):
    file = api.window(UID, 1, 2)
    pid = os.fork()
    if not pid:
        try:
            file.read()
        except ValueError as error:
            os._exit(0 if "another process" in str(error) else 1)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert file.read()


def test_a_pickled_one_has_the_same_options(api):
    with pickle.loads(pickle.dumps(api)) as other:  # noqa: S301 - our own
        assert other.fs is not api.fs
        assert other.fs.config == api.fs.config
        assert other.path(UID) == api.path(UID)


def gets(api: Ego4D) -> int:
    return int(api.fs.vfs.session.metrics.requests["get"])


def test_what_was_read_ahead_is_not_fetched_again(api):
    windows = [(LONG, start, start + 2, f"label {start}") for start in range(0, 50, 5)]
    assert list(api.prefetch_windows(windows, ahead=3)) == windows
    before = gets(api)
    for uid, start_s, end_s, _ in windows:
        with api.window(uid, start_s, end_s) as file:
            assert file.read()
    assert gets(api) == before


def test_a_bad_window_raises_when_it_is_read(api):
    windows = [(UID, 1, 2), ("none", 1, 2), (UID, 3, 1), "xx", (UID, 2, 3)]
    found = list(api.prefetch_windows(windows))
    assert found == windows
    with pytest.raises(errors.NotFound):
        api.frames(*found[1])
    with pytest.raises(errors.ConfigError):
        api.frames(*found[2])
    assert len(api.frames(*found[4])) == media.RATE


def test_limits_below_one_are_errors(api):
    for limits in ({"ahead": 0}, {"max_bytes": 0}):
        with pytest.raises(errors.ConfigError, match="must be at least 1"):
            api.prefetch_windows([], **limits)


def test_no_thread_is_left_after_reading_ahead(api):
    windows = [(LONG, start, start + 2) for start in range(50)]
    found = api.prefetch_windows(windows, ahead=8, max_bytes=4 * MIB)
    assert next(found) == windows[0]
    found.close()
    wait_until(lambda: "windows" not in [thread.name for thread in threading.enumerate()])
