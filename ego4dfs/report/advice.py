"""Advice from a summary: what costs requests and bytes, and the remedy, in plain sentences."""

from __future__ import annotations

from collections.abc import Iterator

from ego4dfs.datasets import VIDEO_DATASETS
from ego4dfs.report.summary import Summary
from ego4dfs.text import counted, human_size

_MIN_BYTES = 16 << 20
"""Nothing is said of datasets of which less was read."""
_SMALL_FILE_BYTES = 1 << 20
_MANY_FILES = 1000
_AMPLIFICATION = 2.0
_THROTTLED_SHARE = 0.01


def advice(found: Summary) -> list[str]:
    """Return a sentence or two for each thing that could be better; none if nothing is wrong."""
    return [
        *_cache(found),
        *_whole_videos(found),
        *_small_files(found),
        *_bytes(found),
        *_errors(found),
    ]


def _cache(found: Summary) -> Iterator[str]:
    limit, fetched = found.cache_limit_bytes, found.counters["bytes_fetched"]
    evictions = found.counters["evictions"]
    if evictions and limit and fetched > limit:
        yield (
            f"The cache is too small: {counted(evictions, 'block was', 'blocks were')} evicted, and"
            f" {human_size(fetched)} were fetched into {human_size(limit)}. What was evicted is"
            " fetched again when it is read again. Mount with a larger --cache-size, or keep what"
            " came first with --eviction none."
        )


def _whole_videos(found: Summary) -> Iterator[str]:
    for dataset in VIDEO_DATASETS:
        key = (dataset, "whole files")
        if found.bytes[key] >= _MIN_BYTES:
            opens = counted(found.opens[key], "video was", "videos were")
            yield (
                f"{dataset}: {opens} read as a whole, {human_size(found.bytes[key])}. decord does"
                " so, and so does a copy. If some seconds of each are enough, read windows:"
                " .ego4dfs/windows/UID/START-END.mp4 in the mount, or Ego4D.frames in Python."
            )


def _small_files(found: Summary) -> Iterator[str]:
    for dataset in dict.fromkeys(name for name, _ in found.opens):
        keys = [key for key in found.opens if key[0] == dataset]
        opens, size = (sum(sums[key] for key in keys) for sums in (found.opens, found.bytes))
        if opens >= _MANY_FILES and size < opens * _SMALL_FILE_BYTES:
            yield (
                f"{dataset}: {opens:,} small files were read, {human_size(size // opens)} each."
                " Requests limit their rate, not bytes. Fetch them ahead:"
                f" ego4dfs prefetch --to cache --datasets {dataset}"
            )


def _bytes(found: Summary) -> Iterator[str]:
    amplification = found.amplification
    if (
        amplification is not None
        and amplification > _AMPLIFICATION
        and found.counters["bytes_fetched"] >= _MIN_BYTES
    ):
        yield (
            f"{amplification:.1f} bytes were fetched for each byte that was read. Reads are short"
            " and far apart: read larger pieces, or whole windows of videos, and keep files open"
            " between reads."
        )


def _errors(found: Summary) -> Iterator[str]:
    failed = found.counters["read_errors"]
    if failed:
        yield (
            f"{counted(failed, 'open or read', 'opens and reads')} of programs ended with an error."
            " The log of the mount has the reasons, and `ego4dfs doctor` checks key and network."
        )
    answers = sum(found.results.values())
    if found.counters["throttled_answers"] > _THROTTLED_SHARE * answers:
        yield (
            f"The store asked to slow down {found.counters['throttled_answers']} times. Start fewer"
            " nodes at once, or share what was fetched."
        )
    if found.results["denied"]:
        yield (
            f"{counted(found.results['denied'], 'request was', 'requests were')} refused. A licence"
            " key is valid for 14 days; `ego4dfs doctor` says which datasets are refused."
        )
