"""The benchmark of reads by URL: each tool reads the right bytes, cold, and counts its requests."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from benchmarks import RunError, samples
from benchmarks.rows.url_features import CAT_RANGES, READ_MANY, contenders
from benchmarks.samples import Dataset
from benchmarks.servers import Servers, serving

COUNT, SLOW = 30, 5
NEEDED_BYTES = 256 << 20  # more than these tests publish and cache


@pytest.fixture(scope="module")
def servers(tmp_path_factory) -> Iterator[Servers]:
    with serving(tmp_path_factory.mktemp("bench"), needed_bytes=NEEDED_BYTES) as running:
        assert not running.wan_missing
        yield running


@pytest.fixture(scope="module")
def features(servers) -> Dataset:
    return samples.publish_files(servers.s3, "url_test", [5_000] * COUNT)


def test_every_tool_reads_the_right_bytes_over_the_network(servers, features):
    for contender in contenders(servers, features, SLOW):
        found = contender.run()
        assert found["files_s"] > 0, contender.name
        assert found["fetched"] > 1, contender.name
        if contender.name in {READ_MANY, CAT_RANGES}:
            assert found["requests"] == COUNT
    assert not list((servers.directory / "runs/cache").iterdir())


def test_wrong_bytes_fail_the_run(servers, features):
    wrong = {name: (size, "other") for name, (size, _) in features.files.items()}
    first, *_ = contenders(servers, replace(features, files=wrong), SLOW)
    with pytest.raises(RunError, match="is wrong"):
        first.run()
