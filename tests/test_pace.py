"""The pace of a run of reads: what a reader goes on by while it waits for the store."""

from __future__ import annotations

from ego4dfs.reader.pace import Pace


def test_a_run_of_one_read_has_no_pace():
    pace = Pace()
    pace.restart(5.0)
    assert pace.bytes_in_a_wait(1000) == 0
    pace.add(6.0)  # all of the time may have been a wait
    assert pace.bytes_in_a_wait(1000) == 0


def test_the_longest_time_between_reads_is_a_wait_and_the_rest_is_work():
    pace = Pace()
    pace.restart(10.0)
    for now_s in (12.0, 12.5, 13.0):
        pace.add(now_s)
    assert pace.bytes_in_a_wait(1000) == 2000


def test_another_run_has_a_pace_of_its_own():
    pace = Pace()
    pace.restart(10.0)
    pace.add(20.0)
    pace.restart(30.0)
    pace.add(31.0)
    pace.add(33.0)
    assert pace.bytes_in_a_wait(1000) == 2000


def test_reads_at_the_same_moment_have_no_pace():
    pace = Pace()
    pace.restart(10.0)
    pace.add(10.0)
    assert pace.bytes_in_a_wait(1000) == 0
