"""How programs read files, seen from the reads of each open file."""

from __future__ import annotations

import pytest

from ego4dfs.access_patterns import (
    MAX_DATASETS,
    OTHER,
    AccessPatterns,
    FileReads,
    dataset_of,
)
from kit.data import MIB

pytestmark = pytest.mark.first_pass

SIZE = 64 * MIB
VIDEO = "/v2/full_scale/a.mp4"


def pattern(reads, size=SIZE, path=VIDEO):
    one = FileReads(path, size)
    for offset, count in reads:
        one.add(offset, count)
    return one.pattern, one.runs


def steps(start, stop, step=MIB):
    return [(offset, min(step, stop - offset)) for offset in range(start, stop, step)]


@pytest.mark.parametrize(
    ("reads", "expected"),
    [
        (steps(0, SIZE), ("whole files", 1)),
        (steps(1, SIZE, 128 << 10), ("whole files", 1)),
        ([(SIZE - MIB, MIB), *steps(0, SIZE)], ("whole files", 2)),
        (steps(0, SIZE // 2), ("sequential", 1)),
        ([(MIB, MIB), (0, MIB), (3 * MIB, MIB), (2 * MIB, MIB)], ("sequential", 1)),
        ([(0, MIB), *steps(20 * MIB, 22 * MIB), *steps(40 * MIB, 42 * MIB)], ("windows", 3)),
        ([(n * 7 * MIB % SIZE, 4096) for n in range(9)], ("random", 9)),
        ([(0, MIB), (2 * MIB + 1, MIB)], ("windows", 2)),
        ([(9 * MIB, MIB), (7 * MIB, MIB)], ("windows", 2)),
    ],
)
def test_the_pattern_of_reads(reads, expected):
    assert pattern(reads) == expected


def test_a_virtual_clip_is_a_window_even_if_all_of_it_is_read():
    assert pattern([(0, 100)], 100, "/.ego4dfs/windows/uid/1-3.mp4") == ("windows", 1)


@pytest.mark.parametrize(
    ("path", "dataset"),
    [
        ("/v2/full_scale/a.mp4", "full_scale"),
        ("v2/components/videos/a.mp4", "components/videos"),
        ("/v2/full_scale/manifest.csv", "manifest.csv"),
        ("/ego4d.json", "ego4d.json"),
        ("/.ego4dfs/windows/uid/1-3.mp4", ".ego4dfs/windows"),
    ],
)
def test_the_dataset_of_a_path(path, dataset):
    assert dataset_of(path) == dataset


def test_totals_have_open_and_closed_files_of_which_something_was_read():
    found = AccessPatterns()
    for number in range(4):
        found.opened(number, VIDEO, 100)
    found.read(0, 0, 100)
    found.read(1, 10, 20)
    found.read(2, 10, 0)
    found.read(9, 0, 5)
    found.closed(9)
    wanted = {
        "full_scale": {
            "whole files": {"opens": 1, "bytes": 100},
            "sequential": {"opens": 1, "bytes": 20},
        }
    }
    assert found.snapshot() == wanted
    for number in range(4):
        found.closed(number)
    assert found.snapshot() == wanted
    found.read(0, 0, 100)
    assert found.snapshot() == wanted


def test_no_more_than_max_datasets_are_counted_apart():
    found = AccessPatterns()
    for number in range(2 * MAX_DATASETS):
        found.opened(number, f"/v2/d{number}/a", 10)
        found.read(number, 0, 10)
        found.closed(number)
    totals = found.snapshot()
    assert len(totals) == MAX_DATASETS + 1
    assert totals[OTHER]["whole files"]["opens"] == MAX_DATASETS
