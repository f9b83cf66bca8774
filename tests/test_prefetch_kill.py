"""A prefetch that was killed is resumed: right files, no byte twice, nothing left behind."""

from __future__ import annotations

import os
import random
import signal
import time

import pytest

from kit.cli import EGO4DFS
from kit.data import MIB, seeded
from kit.prefetch import data_of, tree

pytestmark = pytest.mark.first_pass

KILLS = 20
# What a kill costs does not hang on the size of the files but on what is in the sockets, so a
# quarter of Show 3's 2 GiB will do, with what a tenth of 2 GiB leaves for one of twenty kills.
LOST_BYTES_A_KILL = (2 << 30) // 10 // KILLS


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_run_killed_twenty_times_fetches_almost_nothing_twice(
    prefetch, release, front, tmp_path, spawn
):
    """With SIGKILL at random moments, few bytes are fetched twice."""
    files = {f"video{i}.mp4": seeded(str(i), 128 * MIB + i) for i in range(4)}
    files |= {f"small{i}.pt": seeded(f"s{i}", 50_000) for i in range(100)}
    size = sum(map(len, files.values()))
    release.dataset("annotations", files)
    front.faults.piece_bytes = 64 << 10
    front.faults.bytes_per_s = 12 * MIB
    command = [*EGO4DFS, "prefetch", "-y", "-o", str(tmp_path / "out"), "--no-metadata"]
    command += ["--version", release.version, "--quiet"]
    rng = random.Random(7)
    for kill in range(KILLS):
        process = spawn(command)
        goal = front.bytes_sent + rng.uniform(0.2, 1.4) * size / KILLS * 0.8
        while front.bytes_sent < goal and process.poll() is None:
            time.sleep(0.002)
        assert process.poll() is None, f"it was done before kill {kill}"
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        found = data_of(tree(tmp_path / "out"), release, "annotations")
        whole = {name: data for name, data in found.items() if not name.endswith(".part")}
        assert all(data == files[name] for name, data in whole.items())
    prefetch("-y", "--no-metadata")
    print(f"fetched {front.bytes_sent / size:.3f} of the size")
    assert data_of(tree(tmp_path / "out"), release, "annotations") == files
    assert front.bytes_sent <= size + KILLS * LOST_BYTES_A_KILL
