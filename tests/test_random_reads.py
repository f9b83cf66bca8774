"""Random reads through a store that fails in every way give right bytes or an error."""

from __future__ import annotations

import pytest

from kit import random_reads

SECONDS = 60.0  # scripts/random-reads takes a number of reads; 100,000 are the long form


@pytest.mark.fuse
@pytest.mark.slow
@pytest.mark.fault(
    area="network",
    fault="every fault of this table that a gateway can make, one after the other, with evictions",
    face="mount",
    sees="right bytes or an error; true sizes; all files are read correctly after the faults",
    deadline="40 s",
)
def test_random_reads_give_right_bytes_or_an_error(tmp_path, libfuse, transport):
    report = random_reads.run(
        tmp_path, reads=10**9, seconds=SECONDS, libfuse=libfuse, transport=transport
    )
    print(report)
    assert report.wrong_bytes == []
    assert report.false_ends == []
    assert report.wrong_sizes == []
    assert report.unreadable == []
    assert report.slowest_s <= random_reads.DEADLINE_S
    assert report.evictions > 0
    assert set(report.faults) == set(random_reads.KINDS)
