"""RunThreads: which errors end a run, and which are failures of one object."""

from __future__ import annotations

import errno
from functools import partial

import pytest

from ego4dfs.errors import AccessDenied, CredentialsRejected, MediaError, StoreUnavailable
from ego4dfs.prefetch.outage import OutageTooLong
from ego4dfs.prefetch.run_threads import RunThreads


@pytest.fixture
def stopped_by() -> list[BaseException]:
    return []


@pytest.fixture
def threads(stopped_by) -> RunThreads:
    return RunThreads(stopped_by.append)


@pytest.mark.parametrize("kind", [CredentialsRejected, OutageTooLong])
def test_an_error_that_every_object_would_have_is_raised(threads, kind):
    with pytest.raises(kind):
        threads.is_failure(kind("no"))


@pytest.mark.parametrize("kind", [AccessDenied, MediaError, StoreUnavailable])
def test_other_errors_are_failures_of_one_object(threads, kind):
    assert threads.is_failure(kind("no"))


def test_a_request_that_the_end_of_the_run_cut_short_is_no_failure(threads):
    threads.pool.stop()
    assert not threads.is_failure(StoreUnavailable("no"))
    assert threads.is_failure(AccessDenied("no"))


def test_eight_failures_of_the_store_in_a_row_end_the_run(threads):
    error = StoreUnavailable("no")
    for _ in range(2):
        threads.succeeded()
        for _ in range(7):
            threads.failed(AccessDenied("no"))
            threads.failed(error)
    with pytest.raises(StoreUnavailable):
        threads.failed(error)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(errno.EMFILE, "too many files")])
def test_an_error_of_the_tick_stops_the_run(threads, stopped_by, error):
    def fail() -> None:
        raise error

    threads.pool.add("test", lambda: partial(threads.pool.stopping.wait, 30), 1)
    assert threads.run(fail, lambda: 30.0)
    assert stopped_by == [error]
    assert threads.pool.stopping.is_set()


def test_ctrl_c_while_the_threads_end_stops_the_wait(threads, stopped_by):
    def interrupt() -> float:
        raise KeyboardInterrupt

    threads.pool.add("test", lambda: None, 1)
    assert not threads.run(lambda: None, interrupt)
    assert [type(error) for error in stopped_by] == [KeyboardInterrupt]
