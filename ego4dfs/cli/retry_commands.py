"""The `ego4dfs prefetch` command lines that retry the files a run could not fetch."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from ego4dfs.catalog import Listing
from ego4dfs.cli.parser import Parser, command_line
from ego4dfs.config import FILTERS, UID_FILTERS, Config
from ego4dfs.datasets import MANIFEST
from ego4dfs.files import write_atomic
from ego4dfs.prefetch import Problem, Report

_MAX_NAMES = 5
_MAX_DATASETS = 5


class RetryCommands:
    """Makes command lines for a shell: the one that was given, narrowed to the failed files.

    There is one for each dataset, because a name or a uid may be in several. A few files are
    selected by their names, many by a file of uids in `state`. If neither is possible, the whole
    dataset is selected: complete files are not fetched again.
    """

    def __init__(
        self, parser: Parser, args: argparse.Namespace, config: Config, state: Path
    ) -> None:
        """Start from `args`; `config` was made from them."""
        self._parser = parser
        self._args = vars(args)
        self._state = state
        # No option removes the uids of a config file, and a file of uids is not allowed with them.
        given = "video_uids" in self._args or "video_uid_file" in self._args
        self._may_use_file = given or not config.video_uids

    def commands(self, report: Report, listing: Callable[[str], Listing | None]) -> list[str]:
        """Return the commands that continue this run; none if nothing failed."""
        if report.stopped_by is not None or any(node.error for node in report.nodes):
            return [self._line(())]
        if self._args.get("shard") and (report.problems or report.refused):
            return [self._line(())]  # fewer files would be split in another way
        commands = list(self._for_files(report.problems, listing))
        if report.refused:
            commands.append(self._line((), datasets=list(report.refused)))
        return commands

    def _for_files(
        self, problems: Sequence[Problem], listing: Callable[[str], Listing | None]
    ) -> Iterator[str]:
        by_dataset: dict[str, list[Problem]] = {}
        for problem in {one.path: one for one in problems}.values():  # on several nodes
            by_dataset.setdefault(problem.dataset, []).append(problem)
        if by_dataset.pop("", None):
            yield self._line(FILTERS, manifests_only=True)
        if len(by_dataset) > _MAX_DATASETS:
            yield self._line((), datasets=list(by_dataset), metadata=False)
            return
        for dataset, failed in by_dataset.items():
            yield self._for_dataset(dataset, failed, listing(dataset))

    def _for_dataset(self, dataset: str, problems: list[Problem], listing: Listing | None) -> str:
        if any(problem.name == MANIFEST for problem in problems):  # no filter selects it
            return self._line((), datasets=[dataset], metadata=False)
        if len(problems) <= _MAX_NAMES:
            patterns = [exact_pattern(problem.name) for problem in problems]
            return self._line(FILTERS, datasets=[dataset], metadata=False, include=patterns)
        uids = sorted({problem.uid.lower() for problem in problems})
        if self._may_use_file and listing and listing.listed_uids.issuperset(uids):
            path = self._write(dataset, uids)
            if path is not None:
                file = {"video_uid_file": str(path)}
                return self._line(UID_FILTERS, datasets=[dataset], metadata=False, **file)
        return self._line((), datasets=[dataset], metadata=False)

    def _write(self, dataset: str, uids: list[str]) -> Path | None:
        path = self._state / f"retry-{dataset.replace('/', '-')}.txt"
        try:
            write_atomic(path, "".join(f"{uid}\n" for uid in uids).encode(), is_shared=True)
        except OSError:  # probably a full disk, which the run reports
            return None
        return path

    def _line(self, drop: Sequence[str], **changed: object) -> str:
        options = {name: value for name, value in self._args.items() if name not in drop}
        return command_line(self._parser, argparse.Namespace(**{**options, **changed}))


def exact_pattern(name: str) -> str:
    """Return a glob that matches this name only, written as one word of a list."""
    # Leading and trailing spaces and commas end a word of a list, and a dash begins an option.
    inner = range(len(name) - len(name.lstrip().lstrip("-")), len(name.rstrip()))
    return "".join(
        f"[{letter}]" if letter in "*?[," or place not in inner else letter
        for place, letter in enumerate(name)
    )
