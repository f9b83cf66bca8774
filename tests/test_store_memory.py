"""How much memory the answer to a request takes."""

from __future__ import annotations

import tracemalloc

import pytest

from ego4dfs.blocks import BLOCK_SIZE
from ego4dfs.reader.window import READAHEAD_STEP
from kit.data import seeded

DATA = seeded("one request", READAHEAD_STEP)


@pytest.mark.parametrize("transport", ["obstore", "s3fs"])
def test_a_body_takes_its_memory_once(server, licensed, url, opened, transport):
    """Many requests are answered at once, and 80 MiB are allowed for all."""
    store = opened(endpoint_url=server.endpoint_url, transport=transport)
    store.read_range(url, 0, BLOCK_SIZE)  # the imports and connections stay
    tracemalloc.start()
    try:
        assert store.read_range(url, 0, len(DATA)).data == DATA
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 1.5 * len(DATA)
