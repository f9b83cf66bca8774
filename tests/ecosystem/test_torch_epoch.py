"""The row of scripts/bench with a DataLoader: equal tensors from everywhere, and no byte twice."""

from __future__ import annotations

import sys

import pytest

pytest.importorskip("torch")

from benchmarks import mount_video, peers
from benchmarks.peers import Tool
from benchmarks.rows.torch_epoch import contenders
from benchmarks.servers import serving
from ego4dfs.demo.media import Clip

CLIP = Clip(number=7, duration_s=40, key_frame_s=4)
NEEDED_BYTES = 256 << 20  # more than this test publishes and caches


def test_each_face_has_the_same_tensors_and_workers_fetch_what_one_process_fetches(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(peers, "torch", lambda: Tool("torch", (sys.executable,)))
    with serving(tmp_path, needed_bytes=NEEDED_BYTES) as servers:
        if servers.wan_missing:
            pytest.skip(servers.wan_missing)
        films = mount_video.publish(servers, "film_test", 2, CLIP)
        found = contenders(servers, films, list(range(5, 33, 2)))
        samples = {one.name: one.run() for one in found}  # RunError for other tensors
        for name, sample in samples.items():
            assert sample.keys() & {"samples_s", "cold_samples_s"}, name
            assert "local" in name or sample["wire_mib"] > 1, name
        clips = [name for name in samples if "ego4d://" in name or "clips" in name]
        for many, one in zip(clips[::2], clips[1::2], strict=True):
            assert samples[many]["wire_mib"] <= 1.02 * samples[one]["wire_mib"], many
            assert samples[many]["cached_mib"] < 0.1, many
