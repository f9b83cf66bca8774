"""The nodes of a cluster in the report of a prefetch: a line for each, and why some failed."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from ego4dfs.cli.output import print_error, say
from ego4dfs.copies import unusable
from ego4dfs.errors import Ego4DError
from ego4dfs.prefetch import NodeReport, Report, Status
from ego4dfs.text import human_size


def node_lines(report: Report) -> Iterator[str]:
    """Yield one line for each node."""
    for node in report.nodes:
        right = node.counts[Status.DONE] + node.counts[Status.SKIPPED]
        cached = f", {human_size(node.cached_bytes)} from the cache" if node.cached_bytes else ""
        resumed = f", {human_size(node.resumed_bytes)} resumed" if node.resumed_bytes else ""
        end = "" if node.error is None else "; not complete"
        yield (
            f"node {node.name}: {right} of {node.files} files,"
            f" {human_size(node.fetched_bytes)} from S3{cached}{resumed}{end}"
        )


def say_failed_nodes(report: Report) -> None:
    """Name on stderr the nodes that failed; what stopped the whole run is reported as such."""
    for node in report.nodes:
        if node.error is None or node.error is report.stopped_by:
            continue
        say(f"node {node.name} is not complete:", file=sys.stderr)
        print_error(_named(node.error))


def nodes_document(report: Report) -> dict[str, object]:
    """Return the nodes for programs; nothing if the run had none."""
    if not report.nodes:
        return {}
    return {"nodes": [_document(node) for node in report.nodes]}


def _document(node: NodeReport) -> dict[str, object]:
    return {
        "node": node.name,
        "files": node.files,
        **{status.value: node.counts[status] for status in Status},
        "fetched_bytes": node.fetched_bytes,
        "cached_bytes": node.cached_bytes,
        "resumed_bytes": node.resumed_bytes,
        "error": None if node.error is None else str(_named(node.error)),
    }


def _named(error: BaseException) -> Ego4DError:
    if isinstance(error, Ego4DError):
        return error
    if isinstance(error, OSError):
        return unusable(error, Path(str(error.filename or "")))
    return Ego4DError("interrupted" if isinstance(error, KeyboardInterrupt) else str(error))
