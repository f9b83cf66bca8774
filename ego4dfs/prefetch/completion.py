"""The end of each file: named, kept open until more is known, fetched again, or given up."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from ego4dfs.errors import StoreError
from ego4dfs.prefetch.commit import Landing
from ego4dfs.prefetch.disk_errors import is_hopeless
from ego4dfs.prefetch.downloads import Copy
from ego4dfs.prefetch.etag_check import Prover, Verdict, disagreement, doubt, warn_of_sizes
from ego4dfs.prefetch.part_file import PartFile
from ego4dfs.prefetch.plan import Item
from ego4dfs.store.etag import Comparison


class Settling:
    """Does what a Prover decides about files whose bytes are all here.

    `settle` is safe from several threads; `end` is called once, after all of them.
    """

    def __init__(self, landing: Landing, prover: Prover, on_copy: Callable[[], None]) -> None:
        """Name files by `landing`; `on_copy` hears of each that has its name."""
        self._landing = landing
        self._prover = prover
        self._on_copy = on_copy
        self._doubtful: deque[Copy] = deque()

    def settle(self, copy: Copy, found: Comparison) -> StoreError | None:
        """Name a file or keep it open; return why it is to be fetched again, if it is.

        Raises StoreError when it is to be given up, and OSError when it cannot have its name.
        """
        outcome = self._prover.outcome(copy, found)
        if outcome.verdict is Verdict.ACCEPT:
            self._accept(copy, outcome.checksum)
            return None
        if outcome.verdict is Verdict.OPEN:
            self._doubtful.append(copy)
            return None
        copy.part.discard()
        error = disagreement(copy)
        if outcome.verdict is Verdict.REJECT:
            raise error
        self._prover.distrust(copy)
        return error

    def end(self, fail: Callable[[Item, StoreError | OSError], None], *, is_stopped: bool) -> None:
        """Decide about files of buckets of which too little was known when they came.

        Of a run that was stopped, those of which it is not known yet are left to be fetched anew.
        """
        accepted = []
        for copy in self._doubtful:
            outcome = self._prover.last_outcome(copy)
            try:
                with closing(copy.part):
                    if outcome.verdict is Verdict.ACCEPT:
                        self._accept(copy, outcome.checksum)
                        accepted.append(copy)
                    elif outcome.verdict is Verdict.REJECT or not is_stopped:
                        copy.part.discard()
                        is_known = outcome.verdict is Verdict.REJECT
                        fail(copy.item, disagreement(copy) if is_known else doubt(copy))
            except OSError as error:
                fail(copy.item, error)
        warn_of_sizes(accepted)

    def _accept(self, copy: Copy, checksum: str) -> None:
        self._landing.land(copy.item, copy.facts, copy.part, checksum)
        self._on_copy()


@contextmanager
def closing(part: PartFile) -> Iterator[PartFile]:
    """Close a part file in the end, and remove it if it can never get its name."""
    try:
        yield part
    except OSError as error:
        if is_hopeless(error):
            with suppress(OSError):
                part.discard()
        raise
    finally:
        part.close()
