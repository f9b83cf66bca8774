"""Output of `ego4dfs prefetch`: the plan, the confirmation prompt and the report.

Lines of the official tool that scripts may search for have its wording, where they are true.
"""

from __future__ import annotations

import re
import signal
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TextIO

from ego4dfs.cli.node_report import node_lines, nodes_document, say_failed_nodes
from ego4dfs.cli.output import ExitCode, exit_code, print_error, print_json, say, table
from ego4dfs.copies import State, unusable
from ego4dfs.errors import ConfigError, Ego4DError
from ego4dfs.prefetch import (
    COMPLETE,
    TO_FETCH,
    UNAVAILABLE,
    DatasetPlan,
    Item,
    Plan,
    Problem,
    Report,
    Share,
    Status,
)
from ego4dfs.text import counted, human_size

_HEADER = ("dataset", "files", "size", "complete", "to fetch", "size to fetch", "not on S3")
_BAD = (Status.REFUSED, Status.MISSING, Status.FAILED)
SHOWN = 20
"""How many problems are named; the others are counted."""
QUESTION = "Do you want to start the download? ([y]/n) "
_OF_OBJECT = re.compile(r"^\w+://\S+: (refused: )?")
_NONE: Mapping[str, Ego4DError] = MappingProxyType({})
NOTHING: Mapping[str, object] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class PrefetchPrinter:
    """Prints text on stdout; with `as_json`, one JSON document on stdout and text on stderr."""

    as_json: bool
    quiet: bool
    out: Path
    is_cache: bool = False

    @property
    def progress_stream(self) -> TextIO | None:
        """The stream for progress, None with --quiet."""
        return None if self.quiet else sys.stderr

    def say(self, *lines: str) -> None:
        """Print lines, unless with --quiet."""
        if not self.quiet:
            say(*lines, file=sys.stderr if self.as_json else sys.stdout, flush=True)

    def start(self, datasets: Collection[str], destination: str) -> None:
        """Print what will be downloaded where, before anything is fetched."""
        self.say(
            f"Datasets to download: {' '.join(datasets)}",
            f"Download Path: {destination}",
            "Checking requested datasets and versions...",
        )

    def share(self, share: Share | None) -> None:
        """Print which part of the selection is fetched, unless it is all."""
        if share is not None:
            self.say(
                f"{share.name.capitalize()}: {share.files} of {counted(share.all_files, 'file')},"
                f" {human_size(share.bytes)} of {human_size(share.all_bytes)}."
            )

    def skipped_datasets(self, refused: Mapping[str, Ego4DError]) -> None:
        """Report on stderr the datasets that cannot be listed, with their errors and hints."""
        for error in refused.values():
            print_error(error)
        if refused:
            say(f"Continuing without {' '.join(refused)}.", file=sys.stderr)

    def plan(
        self,
        plan: Plan,
        free: int | None,
        *,
        room: str,
        is_all: bool,
        refused: Mapping[str, Ego4DError] = _NONE,
    ) -> None:
        """Print the plan and the room for it.

        `is_all` says that it is the only output, as with --dry-run.
        """
        self.share(plan.share)
        for item in plan.items:
            if item.state in UNAVAILABLE:
                self.say(_missing(item))
        complete, to_fetch = plan.count(*COMPLETE), plan.count(*TO_FETCH)
        if complete:
            self.say(f"Filtered {complete}/{plan.count(*State)} existing videos for download.")
        if complete and not to_fetch and not plan.count(*UNAVAILABLE):
            where = "cache" if self.is_cache else "output directories under"
            which = f" of {plan.share.name}" if plan.share else ""
            self.say(
                f"The latest versions of all requested videos{which} already exist in the {where}:",
                f"{self.out}",
            )
        if is_all and self.as_json:
            print_json(_plan_document(plan, free, refused))
        elif not self.quiet and (to_fetch or is_all):
            stream = sys.stderr if self.as_json else sys.stdout
            rows = [_plan_row(dataset, is_sampled=plan.is_sampled) for dataset in plan.datasets]
            table(rows, _HEADER, right=_HEADER[1:], stream=stream)
            self.say(*_plan_lines(plan, room))

    def missing(self, plan: Plan, report: Report) -> None:
        """Print the objects that are not on S3, except those of which the plan knew it."""
        known = {item.path for item in plan.items if item.state in UNAVAILABLE}
        for problem in report.problems:
            if problem.status is not Status.FAILED and problem.path not in known:
                self.say(_missing(problem))

    def confirms(self, plan: Plan) -> bool:
        """Ask for confirmation as the official tool does. Raises ConfigError if stdin is closed."""
        return self.asks(*_question(plan))

    def asks(self, *lines: str) -> bool:
        """Ask the last of these lines, below the others. Raises ConfigError as `confirms` does."""
        *above, question = lines
        stream = sys.stderr if self.as_json else sys.stdout
        while True:
            say(*above, file=stream)
            say(question, end="", file=stream, flush=True)
            try:
                answer = sys.stdin.readline()
            except OSError:  # the terminal is gone
                answer = ""
            except UnicodeDecodeError:  # not text: ask again
                answer = "?"
            if not answer:
                raise ConfigError(
                    "stdin is closed, cannot ask for confirmation",
                    hint="use -y to fetch without asking",
                )
            if answer.strip().lower() in {"", "y", "yes"}:
                return True
            if answer.strip().lower() in {"n", "no"}:
                say("Aborting the download operation.", file=stream)
                return False

    def report(
        self,
        report: Report,
        seconds: float,
        retry: Sequence[str],
        *,
        code: int,
        more: Mapping[str, object] = NOTHING,
    ) -> int:
        """Print the outcome and the commands in `retry`, with `more` in the JSON; return `code`."""
        return self._report(report, seconds, retry, code, more)

    def all_refused(self, refused: Mapping[str, Ego4DError], retry: Sequence[str]) -> int:
        """Report that no dataset can be listed, and return the exit code."""
        codes = {exit_code(error) for error in refused.values()}
        code = codes.pop() if len(codes) == 1 else ExitCode.FAILURE
        return self._report(Report(refused=dict(refused)), 0.0, retry, code, NOTHING)

    def _report(
        self,
        report: Report,
        seconds: float,
        retry: Sequence[str],
        code: int,
        more: Mapping[str, object],
    ) -> int:
        if self.as_json:
            print_json({**_report_document(report, seconds, retry, code, self.out), **more})
        elif report.files != report.counts[Status.SKIPPED]:
            self.say(_report_line(report, seconds), *node_lines(report))
        self.problems(report)
        say_failed_nodes(report)
        for refusal in report.refused.values():
            print_error(refusal)
        self._end(report, retry)
        return code

    def problems(self, report: Report) -> None:
        """Name the files that are not right on stderr, unless JSON names them."""
        for problem in report.problems[:SHOWN] if not self.as_json else ():
            reason = without_url(problem.reason)
            say(f"  {problem.status.value}  {problem.path}: {reason}", file=sys.stderr)
        if len(report.problems) > SHOWN and not self.as_json:
            rest = len(report.problems) - SHOWN
            say(f"  … and {rest} more; --json names all", file=sys.stderr)

    def _end(self, report: Report, retry: Sequence[str]) -> None:
        """Print the error that stopped the run, if any, and the commands that continue it."""
        error = report.stopped_by
        if isinstance(error, OSError):
            print_error(unusable(error, self.out))
        elif isinstance(error, Ego4DError):
            print_error(error)
        elif error is not None and not isinstance(error, KeyboardInterrupt):
            raise error
        if error is not None:
            what = "Interrupted" if isinstance(error, KeyboardInterrupt) else "Stopped"
            say(f"{what}; downloaded data is kept. To continue:", file=sys.stderr)
        elif retry:
            say("To retry these files:", file=sys.stderr)
        for command in retry:
            say(f"  {command}", file=sys.stderr)


def without_url(reason: str) -> str:
    """Return a reason without the URL that it begins with: the line has the path already."""
    return _OF_OBJECT.sub("", reason)


def plan_code(plan: Plan, refused: Collection[str]) -> ExitCode:
    """Return the exit code of a dry run."""
    unavailable = plan.count(*UNAVAILABLE)
    if not unavailable:
        return ExitCode.PARTIAL if refused else ExitCode.OK
    return ExitCode.REFUSED if unavailable == plan.count(*State) else ExitCode.PARTIAL


def report_code(report: Report) -> int:
    """Return the exit code of a run."""
    error = report.stopped_by
    if isinstance(error, KeyboardInterrupt):
        return 128 + signal.SIGINT
    if error is not None:
        return exit_code(error) if isinstance(error, Ego4DError) else ExitCode.FAILURE
    if any(node.error is not None for node in report.nodes):
        return ExitCode.PARTIAL
    if not report.problems:
        return ExitCode.PARTIAL if report.refused else ExitCode.OK
    if report.counts[Status.DONE] + report.counts[Status.SKIPPED]:
        return ExitCode.PARTIAL
    return ExitCode.FAILURE if report.counts[Status.FAILED] else ExitCode.REFUSED


def _question(plan: Plan) -> tuple[str, ...]:
    if plan.unsized:
        return (
            f"Number of files to download is: {plan.count(*TO_FETCH)}",
            "Run without --skip-s3-checks for a size estimate.",
            QUESTION,
        )
    # The official line, for programs that read it; its "GB" are 1024³ bytes too.
    size = plan.bytes(*TO_FETCH) / 2**30
    return (f"Expected size of downloaded files is {size:.4f} GiB. {QUESTION}",)


def _missing(file: Item | Problem) -> str:
    return f"Missing s3 object (ignored for download): {file.uid} | {file.name}"


def _plan_row(dataset: DatasetPlan, *, is_sampled: bool) -> tuple[str, ...]:
    sizes = dataset.bytes(*COMPLETE, *TO_FETCH), dataset.bytes(*TO_FETCH)
    shown: tuple[str, ...] = tuple(map(human_size, sizes))
    if any(item.is_unsized for item in dataset.items):
        expected = dataset.expected_sizes().expected_bytes
        shown = tuple(f"~{human_size(s + expected)}" if is_sampled else "?" for s in sizes)
    counts = (dataset.count(*State), dataset.count(*COMPLETE), dataset.count(*TO_FETCH))
    missing = str(dataset.count(*UNAVAILABLE))
    name = dataset.dataset or "(ego4d.json)"
    return name, str(counts[0]), shown[0], str(counts[1]), str(counts[2]), shown[1], missing


def _plan_lines(plan: Plan, room: str) -> tuple[str, ...]:
    resumed = (
        f", {human_size(plan.partial_bytes)} of it already downloaded" if plan.partial_bytes else ""
    )
    size = human_size(plan.bytes(*TO_FETCH) + plan.expected_bytes)
    if plan.unsized:
        size = f"about {size}" if plan.is_sampled else "of unknown size"
    count = plan.count(*TO_FETCH)
    line = f"{count} {'file' if count == 1 else 'files'} to fetch, {size}{resumed}; {room}."
    unsure = plan.count(State.CHECK)
    existing = (f"{unsure} of these exist, and are fetched if they differ.",) if unsure else ()
    return (line, *existing)


def _plan_document(
    plan: Plan, free: int | None, refused: Mapping[str, Ego4DError]
) -> dict[str, object]:
    return {
        "datasets": [
            {
                "dataset": dataset.dataset or None,
                "files": dataset.count(*State),
                "rows": dataset.rows,
                "bytes": dataset.bytes(*COMPLETE, *TO_FETCH),
                "there": dataset.count(*COMPLETE),
                "to_fetch": dataset.count(*TO_FETCH),
                "bytes_to_fetch": dataset.bytes(*TO_FETCH),
                "missing": dataset.count(State.MISSING),
                "refused": dataset.count(State.REFUSED),
            }
            for dataset in plan.datasets
        ],
        "resumed_bytes": plan.partial_bytes,
        "files_of_unknown_size": plan.unsized,
        "free_bytes": free,
        "refused_datasets": _refusals(refused),
        "problems": [
            {"path": item.path, "uid": item.uid, "status": item.state.value, "reason": item.reason}
            for item in plan.items
            if item.state in UNAVAILABLE
        ],
        **share_document(plan.share),
    }


def share_document(share: Share | None) -> dict[str, object]:
    """Return which part of a selection it is, for programs; nothing if it is all."""
    if share is None:
        return {}
    return {
        "shard": {
            "index": share.index,
            "count": share.count,
            "files": share.files,
            "bytes": share.bytes,
            "all_files": share.all_files,
            "all_bytes": share.all_bytes,
            "split": share.digest,
        }
    }


def problems_document(report: Report) -> dict[str, object]:
    """Return the files that are not right and the datasets that cannot be listed, for programs."""
    return {
        "problems": [
            {"path": p.path, "uid": p.uid, "status": p.status.value, "reason": p.reason}
            for p in report.problems
        ],
        "refused_datasets": _refusals(report.refused),
    }


def _refusals(refused: Mapping[str, Ego4DError]) -> list[dict[str, str]]:
    return [
        {"dataset": dataset, "reason": str(error), "remedy": error.hint}
        for dataset, error in refused.items()
    ]


def _report_line(report: Report, seconds: float) -> str:
    counts = [f"{report.counts[Status.DONE]} fetched"]
    counts += [f"{report.counts[Status.SKIPPED]} already complete"]
    counts += [f"{count} {bad.value}" for bad in _BAD if (count := report.counts[bad])]
    moved = [f"{human_size(report.fetched_bytes)} from S3"]
    if report.cached_bytes:
        moved.append(f"{human_size(report.cached_bytes)} from the cache")
    if report.resumed_bytes:
        moved.append(f"{human_size(report.resumed_bytes)} from an earlier run")
    speed = human_size(int(report.fetched_bytes / max(seconds, 0.001)))
    pace = f" ({speed}/s)" if report.fetched_bytes else ""
    done = f"{', '.join(counts)}; {', '.join(moved)} in {seconds:.1f} s{pace}."
    return f"{share_line(report.share)}{done}"


def share_line(share: Share | None) -> str:
    """Return the begin of a line about a part of a selection; nothing if it is all."""
    if share is None:
        return ""
    return f"{share.name}: {counted(share.files, 'file')}, {human_size(share.bytes)}: "


def _report_document(
    report: Report, seconds: float, retry: Sequence[str], code: int, out: Path
) -> dict[str, object]:
    error = report.stopped_by
    return {
        "output_directory": out,
        **{status.value: report.counts[status] for status in Status},
        "files": report.files,
        "fetched_bytes": report.fetched_bytes,
        "cached_bytes": report.cached_bytes,
        "resumed_bytes": report.resumed_bytes,
        "seconds": round(seconds, 3),
        "stopped_by": None if error is None else str(error) or type(error).__name__,
        **problems_document(report),
        **share_document(report.share),
        **nodes_document(report),
        "retry": list(retry),
        "exit_code": int(code),
    }
