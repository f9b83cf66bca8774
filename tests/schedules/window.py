"""Scenarios of Window: concurrent reads have the effect of the same reads in some order."""

from __future__ import annotations

import random
from collections.abc import Callable
from itertools import permutations
from typing import Any

from schedules.fakes import run_threads
from schedules.instrument import Product
from schedules.scheduler import paused

Call = Callable[[Any], object]


def _state(window: Any) -> tuple[object, ...]:
    return (
        window._start,
        window._next,
        window._ahead,
        window._has_missed,
        window._least,
        tuple(window._runs),
    )


def _read(start: int, stop: int, *, missed: bool = True, shared: bool = False) -> Call:
    return lambda window: window.advance(start, stop, missed=missed, shared=shared)


def _rewind(stop: int) -> Call:
    return lambda window: window.rewind_to(stop)


def _in_order(window: Any, calls: tuple[tuple[int, Call], ...]) -> object:
    with paused():
        results = {number: call(window) for number, call in calls}
    return tuple(results[number] for number in sorted(results)), _state(window)


_orders: dict[tuple[object, ...], set[object]] = {}


def _check(product: Product, before: tuple[Call, ...], calls: tuple[Call, ...]) -> None:
    """Run each call in a thread; results and state must be those of some sequential order."""
    window_type = product.reader_window.Window

    def make() -> Any:
        with paused():
            window = window_type()
            for call in before:
                call(window)
        return window

    key = (window_type, *before, *calls)
    if key not in _orders:
        _orders[key] = {_in_order(make(), order) for order in permutations(enumerate(calls))}
    window, found = make(), [None] * len(calls)

    def run(number: int) -> Callable[[], None]:
        def body() -> None:
            found[number] = calls[number](window)
            assert window.granularity in (16, 64)

        return body

    run_threads(*(run(number) for number in range(len(calls))))
    result = (tuple(found), _state(window))
    assert result in _orders[key], f"no order of these calls has the result {result}"
    assert window._ahead >= window._next, "the window ends before what was read"


_AT_START = (_read(0, 100), _read(100, 200), _read(200, 300))
_OPEN = tuple(_read(start, start + 100) for start in range(0, 600, 100))
_NEXT = (_read(600, 700), _read(700, 800), _read(800, 900))
_SEEK = (_read(600, 700), _read(9000, 9100), _read(700, 800, missed=False))
_REWIND = (_read(600, 700), _rewind(700), _read(700, 800, shared=True))


def at_the_start(product: Product, dice: random.Random) -> None:
    """Three reads at the start of a file."""
    _check(product, (), _AT_START)


def in_an_open_window(product: Product, dice: random.Random) -> None:
    """Three reads in order in an open window."""
    _check(product, _OPEN, _NEXT)


def with_a_seek(product: Product, dice: random.Random) -> None:
    """Two reads in order, and one elsewhere."""
    _check(product, _OPEN, _SEEK)


def with_a_rewind(product: Product, dice: random.Random) -> None:
    """Two reads in order, and a rewind."""
    _check(product, _OPEN, _REWIND)


SCENARIOS = (at_the_start, in_an_open_window, with_a_seek, with_a_rewind)
