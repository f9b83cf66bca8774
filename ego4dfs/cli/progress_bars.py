"""Progress bars on a terminal, made with rich; imported late, because that import is slow."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple, TextIO

from rich.console import Console, RenderableType
from rich.constrain import Constrain
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from ego4dfs.text import human_size

_ECHO_COLUMNS = 3


class Unit(NamedTuple):
    """How amounts, and amounts in each second, are shown."""

    amount: Callable[[float], str]
    speed: Callable[[float], str]


BYTES = Unit(lambda size: human_size(int(size)), lambda speed: f"{human_size(int(speed))}/s")
VIDEO_SECONDS = Unit(lambda seconds: f"{seconds:.0f} s", lambda speed: f"{speed:.1f}x")


class ProgressBars(Progress):
    """A bar for the whole run, a bar for each file in progress, and the line `note` below."""

    def __init__(self, stream: TextIO, unit: Unit = BYTES) -> None:
        self.note = ""
        self._terminal = Console(file=stream)
        super().__init__(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            _Amount(unit),
            _Speed(unit),
            TimeRemainingColumn(),
            console=self._terminal,
        )
        self._shown: dict[str, TaskID] = {}

    def get_renderables(self) -> Iterable[RenderableType]:
        """Return the bars, narrower than the terminal.

        With full-width bars the echo of Ctrl-C wraps, and the bars are drawn twice.
        """
        width = max(1, self._terminal.width - _ECHO_COLUMNS)
        for drawn in super().get_renderables():
            yield Constrain(drawn, width)
        if self.note:
            yield Constrain(Text(self.note, no_wrap=True, overflow="ellipsis"), width)

    def show(self, key: str, text: str, done: float, total: float) -> None:
        """Show or update the bar of `key`; `done` and `total` in the unit of the bars."""
        total = max(total, done)
        if key not in self._shown:
            self._shown[key] = self.add_task(text, total=total)
        self.update(self._shown[key], description=text, completed=done, total=total)

    def keep(self, keys: Iterable[str]) -> None:
        """Remove all bars but these."""
        wanted = frozenset(keys)
        for key in [key for key in self._shown if key not in wanted]:
            self.remove_task(self._shown.pop(key))


class _Amount(ProgressColumn):
    """What is done and the total."""

    def __init__(self, unit: Unit) -> None:
        super().__init__()
        self._unit = unit

    def render(self, task: Task) -> Text:
        """Return both, or only the finished part if the total is unknown."""
        total = "" if task.total is None else f" of {self._unit.amount(task.total)}"
        return Text(self._unit.amount(task.completed) + total)


class _Speed(ProgressColumn):
    """The speed."""

    def __init__(self, unit: Unit) -> None:
        super().__init__()
        self._unit = unit

    def render(self, task: Task) -> Text:
        """Return it, or a question mark while it is unknown."""
        speed = task.finished_speed or task.speed
        return Text("?" if speed is None else self._unit.speed(speed))
