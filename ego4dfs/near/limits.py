"""Limits of the near tier: times, failures, and bytes in memory."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class NearLimits:
    """What the near tier may cost. A read of it never takes longer than `request_s`."""

    request_s: float = 3.0
    """Limit of one request, its body included."""
    slow_s: float = 0.8
    """An answer that took longer counts as a failure: S3 itself is faster."""
    failures: int = 4
    """After so many failures in a row, requests pause."""
    pause_s: float = 10.0
    """The first pause; one request is sent after it. Each failure of that doubles the pause."""
    max_pause_s: float = 120.0
    lease_s: float = 10.0
    """How long others wait for a node that fetches the same chunk, and may have ended."""
    queue_bytes: int = 64 << 20
    """Bytes that wait to be written; more are dropped."""
    memory_bytes: int = 16 << 20
    """Chunks that stay in memory because only a part of them was read."""
    flush_s: float = 2.0
    """How long the end of a process waits for writes."""


DEFAULT = NearLimits()
