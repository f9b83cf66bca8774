"""Finalizer: each fetched file is renamed, held until more is known, fetched again, or failed."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from ego4dfs.errors import StoreError
from ego4dfs.prefetch.commit import Committer
from ego4dfs.prefetch.disk_errors import is_hopeless
from ego4dfs.prefetch.etag_check import Action, EtagChecker, disagreement, doubt, warn_of_sizes
from ego4dfs.prefetch.part_file import PartFile
from ego4dfs.prefetch.plan import Item
from ego4dfs.prefetch.ranged_download import Download
from ego4dfs.store.etag import Comparison


class Finalizer:
    """Applies the decisions of an EtagChecker to files whose bytes are complete.

    `complete` is safe from several threads; `end` is called once, after all of them.
    """

    def __init__(
        self, committer: Committer, checker: EtagChecker, on_complete: Callable[[], None]
    ) -> None:
        """Rename files with `committer`; `on_complete` is called for each renamed file."""
        self._committer = committer
        self._checker = checker
        self._on_complete = on_complete
        self._held: deque[Download] = deque()

    def complete(self, download: Download, found: Comparison) -> StoreError | None:
        """Rename a file or hold it; return the error if it has to be fetched again.

        Raises StoreError if it has failed, and OSError if it cannot be renamed.
        """
        outcome = self._checker.outcome(download, found)
        if outcome.action is Action.ACCEPT:
            self._accept(download, outcome.checksum)
            return None
        if outcome.action is Action.HOLD:
            self._held.append(download)
            return None
        download.part.discard()
        error = disagreement(download)
        if outcome.action is Action.REJECT:
            raise error
        self._checker.discard_sources(download)
        return error

    def end(self, fail: Callable[[Item, StoreError | OSError], None], *, is_stopped: bool) -> None:
        """Decide about held files, whose buckets had too little evidence when they were complete.

        If the run was stopped, those that are still undecided are left for the next run.
        """
        accepted = []
        for download in self._held:
            outcome = self._checker.final_outcome(download)
            try:
                with closing(download.part):
                    if outcome.action is Action.ACCEPT:
                        self._accept(download, outcome.checksum)
                        accepted.append(download)
                    elif outcome.action is Action.REJECT or not is_stopped:
                        download.part.discard()
                        is_known = outcome.action is Action.REJECT
                        fail(download.item, disagreement(download) if is_known else doubt(download))
            except OSError as error:
                fail(download.item, error)
        warn_of_sizes(accepted)

    def _accept(self, download: Download, checksum: str) -> None:
        self._committer.commit(download.item, download.facts, download.part, checksum)
        self._on_complete()


@contextmanager
def closing(part: PartFile) -> Iterator[PartFile]:
    """Close a part file afterwards, and remove it if it can never be renamed."""
    try:
        yield part
    except OSError as error:
        if is_hopeless(error):
            with suppress(OSError):
                part.discard()
        raise
    finally:
        part.close()
