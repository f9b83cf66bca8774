"""Target: how the input of one reader is generated, and what must hold for each input."""

from __future__ import annotations

import random
import signal
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from ego4dfs.errors import Ego4DError

CPU_S = 5.0
"""CPU time for one input. The largest inputs have 100,000 characters, which takes 0.1 s."""
_MESSAGE_CHARACTERS = 2000
_NO_DIRECTORY = Path("/nonexistent")


@dataclass(frozen=True)
class Target:
    """One reader. `check` takes an input and an empty directory, and asserts what must hold.

    `examples` is the number of inputs in one run of the tests. If there is `draw`, it makes the
    inputs of the long form, because Hypothesis would take more time than the check.
    `needs_directory` says whether the check uses its directory: to make one takes 1 ms.
    """

    name: str
    inputs: st.SearchStrategy[Any]
    check: Callable[[Any, Path], None]
    examples: int = 100
    draw: Callable[[random.Random], Any] | None = None
    needs_directory: bool = True


class TooSlow(BaseException):  # not an Exception: the code under test must not catch it
    """An input took more CPU time than CPU_S."""


def run(target: Target, examples: int, number: int, count: Callable[[], None]) -> None:
    """Check so many inputs, generated from the seed `number`; raise the failure of a minimal one.

    `count` is called for each input.
    """

    @seed(number)
    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        report_multiple_bugs=False,
        phases=(Phase.generate, Phase.shrink),
    )
    @given(target.inputs)
    def check_one(value: Any) -> None:
        count()
        check(target, value)

    check_one()


def run_drawn(target: Target, examples: int, number: int, count: Callable[[], None]) -> None:
    """Check so many inputs that `target.draw` makes from the seed `number`.

    `count` is called for each input. Raises the failure of the first one, with the input as a note:
    it is not made smaller.
    """
    assert target.draw is not None
    chance = random.Random(number)
    for _ in range(examples):
        value = target.draw(chance)
        count()
        try:
            check(target, value)
        except (Exception, TooSlow) as error:
            error.add_note(f"Falsifying example: {value!r}")
            raise


def check(target: Target, value: Any) -> None:
    """Check one input, in a directory of its own if the target needs one, and within CPU_S."""
    if not target.needs_directory:
        with _limited():
            target.check(value, _NO_DIRECTORY)
        return
    with tempfile.TemporaryDirectory(prefix="fuzz-") as directory, _limited():
        target.check(value, Path(directory))


@contextmanager
def _limited() -> Iterator[None]:
    """Raise TooSlow in the block after CPU_S of CPU time; load of other processes has no effect."""

    def end(_number: int, _frame: FrameType | None) -> None:
        raise TooSlow

    before = signal.signal(signal.SIGPROF, end)
    signal.setitimer(signal.ITIMER_PROF, CPU_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def assert_clear(error: Ego4DError) -> None:
    """Assert that an error is one printable line of bounded length."""
    text = str(error)
    assert text
    assert text.isprintable()
    assert error.hint.isprintable()
    assert len(text) <= _MESSAGE_CHARACTERS, f"{len(text)} characters: {text[:200]}"
