"""Copies of objects with a wrong size in the HEAD response."""

from __future__ import annotations

import pytest

from ego4dfs.prefetch import Status
from kit.data import MIB, seeded
from kit.prefetch import data_of, tree

FILES = {"large.mp4": seeded("large", 11 * MIB + 1), "small.pt": seeded("small", 20_000)}


@pytest.mark.fault(
    area="answers",
    fault="a HEAD response with a wrong size",
    face="prefetch",
    sees="the copy is whole: the first answer with bytes has the true size",
    deadline="at once",
)
@pytest.mark.parametrize("off", [-137, 137])
def test_a_wrong_size_truncates_no_copy(prefetch, release, front, tmp_path, off):
    release.dataset("annotations", FILES)
    front.faults.head_size_off = off
    prefetch("-y", "--no-metadata")
    assert data_of(tree(tmp_path / "out"), release, "annotations") == FILES


def test_an_empty_object_with_a_wrong_size_is_copied(prefetch, release, front, tmp_path):
    release.dataset("annotations", {"empty.json": b""})
    front.faults.head_size_off = 137
    prefetch("-y", "--no-metadata")
    assert data_of(tree(tmp_path / "out"), release, "annotations") == {"empty.json": b""}


def test_a_copy_confirms_the_size_of_its_object(bench):
    bench.put(small=b"s" * 10, large=b"l" * 3 * MIB)
    for url in bench.store.objects:
        assert not bench.facts.get(url).has_confirmed_size
    assert bench.fetch().counts[Status.DONE] == 2
    for url in bench.store.objects:
        assert bench.facts.get(url).has_confirmed_size
