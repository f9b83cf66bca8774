"""Results computed ahead of the caller: order, memory, errors, and threads that end."""

from __future__ import annotations

import gc
import itertools
import os
import signal
import threading
import weakref
from collections.abc import Callable, Iterator

import pytest

from ego4dfs.filesystem.ahead_of_caller import THREADS, Reserve, ahead_of_caller
from ego4dfs.runtime.daemon_threads import DaemonThreadPool
from kit.processes import wait_until

pytestmark = pytest.mark.first_pass

NAME = "read-many"


class Work:
    """Returns the square of a number, of `size` bytes; those in `held` wait until `gate` is set."""

    def __init__(self, size: int = 1) -> None:
        self.size = size
        self.held: set[int] = set()
        self.gate = threading.Event()
        self.most = self.done = 0
        self._held_bytes = 0
        self._lock = threading.Lock()

    def __call__(self, number: int, reserve: Reserve) -> int:
        reserve(self.size)
        with self._lock:
            self._held_bytes += self.size
            self.most = max(self.most, self._held_bytes)
        assert number not in self.held or self.gate.wait(30)
        with self._lock:
            self.done += 1
        if number < 0:
            raise ValueError(str(number))
        return number * number

    def taken(self) -> None:
        """Say that the caller has no result any more that it had before."""
        with self._lock:
            self._held_bytes -= self.size


def run(work: Work, numbers: list[int], *, ordered: bool, max_bytes: int = 1 << 30) -> Iterator:
    return ahead_of_caller(numbers, work, ordered=ordered, max_bytes=max_bytes)


def threads() -> int:
    return [thread.name for thread in threading.enumerate()].count(NAME)


@pytest.fixture(autouse=True)
def _no_thread_of_another_test():
    wait_until(lambda: not threads())


@pytest.mark.parametrize("ordered", [True, False])
def test_each_item_is_yielded_once_with_its_result(ordered):
    numbers = [*range(2000), 7, 7]
    found = list(run(Work(), numbers, ordered=ordered))
    assert (found if ordered else sorted(found)) == [
        (number, number**2) for number in (numbers if ordered else sorted(numbers))
    ]


def test_without_order_a_slow_item_holds_up_no_other():
    work = Work()
    work.held = {0}
    found = run(work, list(range(100)), ordered=False)
    others = [next(found)[0] for _ in range(99)]
    assert sorted(others) == list(range(1, 100))
    work.gate.set()
    assert list(found) == [(0, 0)]


def test_an_error_is_yielded_in_place_of_the_result():
    (_, first), (_, second), (_, third) = run(Work(), [1, -2, 3], ordered=True)
    assert (first, third) == (1, 9)
    assert isinstance(second, ValueError)


def test_an_error_of_the_items_is_raised():
    def items() -> Iterator[int]:
        yield 1
        raise KeyError("items")

    with pytest.raises(KeyError, match="items"):
        list(ahead_of_caller(items(), Work(), ordered=True, max_bytes=1))


@pytest.mark.parametrize("ordered", [True, False])
def test_results_ahead_are_within_the_limit(ordered):
    work = Work(size=10)
    for _ in run(work, list(range(500)), ordered=ordered, max_bytes=35):
        work.taken()
    assert work.done == 500
    # In order, the one that the caller waits for may be beside full room.
    assert work.most <= (45 if ordered else 35)


@pytest.mark.parametrize("ordered", [True, False])
def test_a_result_above_the_limit_is_computed_alone(ordered):
    work = Work(size=100)
    for _ in run(work, list(range(50)), ordered=ordered, max_bytes=1):
        work.taken()
    assert work.most <= (200 if ordered else 100)


def test_items_far_ahead_of_the_caller_are_not_taken():
    taken: list[int] = []

    def items() -> Iterator[int]:
        for number in range(10_000):
            taken.append(number)
            yield number

    found = ahead_of_caller(items(), Work(), ordered=True, max_bytes=1 << 30)
    next(found)
    assert len(taken) == 4 * THREADS
    found.close()


@pytest.mark.parametrize("end", [Iterator.__iter__, lambda found: found.close()])
def test_no_thread_is_left(end: Callable[[Iterator], object]):
    work = Work(size=10)
    found = run(work, list(range(300)), ordered=True, max_bytes=30)
    assert next(found) == (0, 0)
    assert threads() <= THREADS
    end(found)
    if end is Iterator.__iter__:
        assert len(list(found)) == 299
    wait_until(lambda: not threads())
    assert work.done <= 300


def test_few_items_start_few_threads():
    work = Work()
    work.held = {0, 1, 2}
    found = run(work, [0, 1, 2], ordered=True)
    threading.Timer(0.2, work.gate.set).start()
    next(found)
    assert threads() <= 3
    found.close()


def test_without_threads_the_caller_does_the_work(monkeypatch):
    monkeypatch.setattr(DaemonThreadPool, "submit", lambda *_, **__: False)
    found = list(run(Work(size=10), list(range(300)), ordered=True, max_bytes=1))
    assert found == [(number, number**2) for number in range(300)]


def test_a_forked_child_gets_an_error_also_if_a_thread_held_the_lock_at_the_fork():
    first_yielded, is_locked, gate = threading.Event(), threading.Event(), threading.Event()

    class Size(int):
        """A size that is added to the others, which is done under the lock, once `gate` is set."""

        def __radd__(self, other: int) -> int:
            is_locked.set()
            assert gate.wait(30)
            return int(self) + other

    def compute(number: int, reserve: Reserve) -> int:
        assert number == 0 or first_yielded.wait(30)
        reserve(Size(1) if number else 1)
        return number

    found = ahead_of_caller(range(2), compute, ordered=True, max_bytes=100)
    assert next(found) == (0, 0)
    first_yielded.set()
    assert is_locked.wait(30)
    pid = os.fork()
    if not pid:
        signal.alarm(20)
        try:
            next(found)
        except ValueError as error:
            os._exit(0 if "another process" in str(error) else 1)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    gate.set()
    assert list(found) == [(1, 1)]


class Result:
    """A result that can be seen to be freed."""


@pytest.mark.parametrize("ordered", [True, False])
def test_results_that_were_yielded_are_freed(ordered):
    alive: list[weakref.ref[Result]] = []

    def compute(_number: int, _reserve: Reserve) -> Result:
        found = Result()
        alive.append(weakref.ref(found))
        return found

    found = ahead_of_caller(range(1000), compute, ordered=ordered, max_bytes=1)
    for _ in itertools.islice(found, 900):
        pass
    gc.collect()
    assert sum(one() is not None for one in alive) <= 5 * THREADS
    found.close()


def test_reads_that_wait_for_memory_are_not_begun_at_the_end():
    work = Work(size=100)
    found = run(work, list(range(300)), ordered=True, max_bytes=100)
    next(found)
    done = work.done
    found.close()
    wait_until(lambda: not threads())
    assert work.done <= done + 1


@pytest.mark.parametrize("ordered", [True, False])
def test_what_is_no_exception_is_raised_in_the_caller(ordered):
    def fail(_number: int, _reserve: Reserve) -> None:
        raise SystemExit(7)

    with pytest.raises(SystemExit):
        next(ahead_of_caller(range(3), fail, ordered=ordered, max_bytes=1))


@pytest.mark.parametrize("ordered", [True, False])
def test_a_function_that_reserves_again_gives_back_what_it_has(ordered):
    both = threading.Barrier(2)

    def compute(number: int, reserve: Reserve) -> int:
        reserve(50)
        both.wait(10)
        reserve(60)
        return number

    found = ahead_of_caller(range(2), compute, ordered=ordered, max_bytes=100)
    assert sorted(number for number, _ in found) == [0, 1]


def test_a_long_result_is_not_computed_before_it_is_next():
    begun: list[int] = []
    gate = threading.Event()

    def compute(number: int, reserve: Reserve) -> int:
        assert number or gate.wait(10)
        reserve(1000 if number else 1)
        begun.append(number)
        return number

    found = ahead_of_caller(range(2), compute, ordered=True, max_bytes=100)
    threading.Timer(0.2, gate.set).start()
    assert [number for number, _ in found] == begun == [0, 1]
