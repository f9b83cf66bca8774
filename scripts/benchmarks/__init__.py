"""`scripts/bench`: ego4dfs and its peers, measured side by side against one server."""

from __future__ import annotations


class BenchError(Exception):
    """The benchmark cannot go on; the message says why."""


class RunError(Exception):
    """One run of one tool failed or brought wrong bytes; the others go on."""
