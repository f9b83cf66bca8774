"""The pace of a run of reads: what a reader goes on by while it waits for the store."""

from __future__ import annotations

import pytest

from ego4dfs.reader.pace import Pace


def pace_of(*times_s: float) -> Pace:
    pace = Pace()
    for now_s in times_s:
        pace.add(now_s)
    return pace


@pytest.mark.parametrize("times_s", [(), (5.0,), (5.0, 6.0), (5.0, 5.0, 5.0), (5.0, 6.0, 6.0)])
def test_a_run_whose_reader_has_done_no_work_has_no_pace(times_s):
    assert pace_of(*times_s).bytes_in_a_wait(1000) == 0


def test_the_time_to_the_second_read_is_a_wait_and_the_rest_is_work():
    assert pace_of(10.0, 12.0, 12.5, 13.0).bytes_in_a_wait(1000) == 2000


def test_a_reader_that_waits_later_is_slower():
    assert pace_of(10.0, 12.0, 13.0, 16.0).bytes_in_a_wait(1000) == 500


def test_reads_that_are_sent_together_do_not_wait():
    assert pace_of(10.0, 10.0, 12.0).bytes_in_a_wait(1000) == 0


def test_a_run_may_end_while_its_pace_is_taken():
    """Another read of the same file seeks meanwhile."""
    pace = pace_of(10.0, 12.0)

    class Ending(float):
        def __le__(self, other: float) -> bool:
            pace.restart()
            return super().__le__(other)

    pace.add(Ending(13.0))
    assert pace.bytes_in_a_wait(1000) == 2000


def test_another_run_has_a_pace_of_its_own():
    pace = pace_of(10.0, 20.0, 30.0)
    pace.restart()
    for now_s in (40.0, 41.0, 43.0):
        pace.add(now_s)
    assert pace.bytes_in_a_wait(1000) == 500
