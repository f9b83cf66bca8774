"""What stops a benchmark, or one run of it."""

from __future__ import annotations


class BenchError(Exception):
    """The benchmark cannot go on; the message says why."""


class RunError(Exception):
    """One run of one tool failed or brought wrong bytes; the others go on."""
