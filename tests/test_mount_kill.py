"""Mounts that are killed under load lose nothing that was cached, and never give wrong bytes."""

from __future__ import annotations

import pytest

from kit import kill_mounts

KILLS = 4  # scripts/kill-mounts takes a number; 100 are the long form


@pytest.mark.fuse
@pytest.mark.slow
@pytest.mark.fault(
    area="processes",
    fault="SIGKILL of one of two mounts that share a cache, under load",
    face="mount",
    sees="no wrong byte; what was cached is not fetched again after a remount",
    deadline="at once",
)
def test_killed_mounts_lose_no_cached_block(tmp_path, libfuse, transport):
    report = kill_mounts.run(KILLS, tmp_path, libfuse=libfuse, transport=transport)
    print(report)
    assert report.kills == KILLS
    assert report.wrong == []
    assert report.lost == []
    assert report.reads > 0
    assert report.unchecked < KILLS
