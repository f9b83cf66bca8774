"""`scripts/bench`: ego4dfs and its peers, measured side by side against one server."""

from __future__ import annotations


class BenchError(Exception):
    """The benchmark cannot continue; the message says why."""


class RunError(Exception):
    """One run of one tool failed or returned wrong bytes; the others continue."""
