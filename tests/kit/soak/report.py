"""What a soak run has found, as tables; and whether every promise was kept."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from ego4dfs.runtime.deadline import ANSWER_S
from kit.load import Load
from kit.soak.flat import USED, Rest, growing, kept
from kit.soak.resources import Sample

HANG_S = ANSWER_S + 10.0  # the deadline of a call, and what a busy machine adds


@dataclass
class Outcome:
    """The result of one run. What breaks a promise is in `broken`, by promise."""

    title: str
    notes: list[str] = field(default_factory=list)
    load: Load = field(default_factory=Load)
    errors: Counter[tuple[str, str]] = field(default_factory=Counter)  # by errno and reader
    faults: Counter[str] = field(default_factory=Counter)
    actions: Counter[str] = field(default_factory=Counter)
    hangs: list[str] = field(default_factory=list)
    aborted: list[str] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    samples: dict[str, list[Sample]] = field(default_factory=dict)
    rests: list[Rest] = field(default_factory=list)
    largest: dict[str, int] = field(default_factory=dict)

    @property
    def broken(self) -> dict[str, list[str]]:
        """The promises, and how each was broken."""
        slow = [
            f"{kind}: {slowest_s:.1f} s"
            for kind, slowest_s in self.load.slowest.items()
            if slowest_s > HANG_S and kind != "prefetch"
        ]
        return {
            "wrong bytes": self.load.wrong_bytes,
            "false ends of file": self.load.false_ends,
            "wrong sizes of open files": self.load.wrong_sizes,
            "lost names, other exceptions": self.load.unexpected,
            f"hangs (calls over {HANG_S:.0f} s)": self.hangs + slow,
            "aborted connections": self.aborted,
            "bound violations": self.violations,
            "growth from rest to rest": list(growing(self.samples, self.rests)),
            "unreadable after the faults": self.unreadable,
            "actions that failed": self.failed,
            "left behind": self.left,
        }

    @property
    def is_right(self) -> bool:
        """Whether every promise was kept."""
        return not any(self.broken.values())

    def __str__(self) -> str:
        promises = [(name, len(lines)) for name, lines in self.broken.items()]
        details = [f"{name}: {line}" for name, lines in self.broken.items() for line in lines]
        return "\n".join(
            [
                self.title,
                *self.notes,
                *_table(("operation", "count", "failed", "slowest call"), self._operations()),
                *self._errors(),
                *_table(("fault", "times"), self.faults.items()),
                *_table(("action", "times"), self.actions.items()),
                *_table(("process", "starts", *USED.values()), self._processes()),
                *_table(("largest", ""), self.largest.items()),
                *_table(("broken promises", "count"), promises),
                *details,
            ]
        )

    def _errors(self) -> list[str]:
        readers = sorted({reader for _, reader in self.errors})
        names = [name for name, _ in self.load.errors.most_common()]
        rows = [(name, *(self.errors[name, reader] for reader in readers)) for name in names]
        return _table(("error", *readers), rows)

    def _operations(self) -> Iterable[tuple[object, ...]]:
        load = self.load
        for kind in sorted(load.operations):
            calls = [s for call, s in load.slowest.items() if call.partition(": ")[0] == kind]
            slowest = f"{max(calls, default=0.0):.2f} s"
            yield kind, load.operations[kind], load.failed[kind], slowest
        yield "reads compared", load.reads, "", ""

    def _processes(self) -> Iterable[tuple[object, ...]]:
        """Yield what each process used: at the begin, least in each rest, and at most."""
        for name, samples in self.samples.items():
            starts = len({sample.pid for sample in samples})
            yield name, starts, *(kept(samples, self.rests, what) for what in USED)


def _table(heads: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    cells = [list(map(str, heads)), *(list(map(str, row)) for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(heads))]
    lines = [
        "  ".join(
            [row[0].ljust(widths[0])]
            + [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        ).rstrip()
        for row in cells
    ]
    return ["", lines[0], "-" * len(lines[0]), *lines[1:]] if len(cells) > 1 else []
