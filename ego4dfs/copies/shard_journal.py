"""Journals of shards: several prefetches fill one directory, each with a journal of its own.

SQLite databases cannot be shared by the machines of a cluster, so each shard writes its own, in
`<root>/.ego4dfs/shard-<index>-of-<count>/`. It begins as a copy of the directory's journal, or of
its own rows there. They are moved back when the shard ends or, if it was killed, by the next
prefetch or shard. The lock of the directory's journal is held only meanwhile.
"""

from __future__ import annotations

import errno
import json
import logging
import shutil
from collections.abc import Collection, Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

from ego4dfs.copies import journal_file
from ego4dfs.copies.journal import Journal, JournalError
from ego4dfs.errors import OutputError
from ego4dfs.files import read_regular, write_atomic

WAIT_S = 300.0
"""How long a shard waits for others that copy or move their records: 0.5 s for 100,000 files."""

_PLAN = "plan.json"

log = logging.getLogger(__name__)


def open_whole(state: Path, *, wait_s: float = 0.0) -> Journal:
    """Open the journal of a directory, and move the rows of shards that were killed there.

    Raises OutputError as Journal does, and also if a shard is running.
    """
    journal = Journal(state, wait_s=wait_s)
    try:
        for directory in _directories(state):
            _join(journal, directory)
    except BaseException:
        journal.close()
        raise
    return journal


class ShardJournal(Journal):
    """The journal of one shard of a prefetch; other shards write to the same directory.

    Raises OutputError as Journal does, and on a filesystem without locks.
    """

    def __init__(
        self, state: Path, index: int, count: int, paths: Collection[str] | None = None
    ) -> None:
        """Begin with a copy of the journal in `state`, or only of its rows of `paths`.

        With `paths` the journal was opened and checked just before, by the process that has
        divided them.
        """
        self._state = state
        self._directory = state / f"shard-{index}-of-{count}"
        self._own: frozenset[str] = frozenset()
        self._is_checked = paths is not None
        with journal_file.exclusive(state, WAIT_S):
            pass  # it has locks
        with ExitStack() as failed:
            with closing(self._whole()) as whole:
                for directory in _directories(state):
                    if not _is_running(directory):
                        _join(whole, directory)
                self._directory.mkdir(exist_ok=True)
                super().__init__(self._directory)
                failed.callback(super().close)  # else other processes would find it running
                if paths is None:
                    self.copy_all(whole)
                else:
                    wanted = {*paths, *whole.complete_part_names()}
                    self.replace_rows(wanted, whole.rows(wanted))
            self._note_rows()
            failed.pop_all()

    def _whole(self) -> Journal:
        return Journal(self._state, wait_s=WAIT_S, is_checked=self._is_checked)

    @property
    def is_shared(self) -> bool:
        """Whether other processes write to the same directories of copies."""
        return True

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Keep other shards from the records that all write. Raises JournalError after WAIT_S."""
        with ExitStack() as stack:
            try:
                stack.enter_context(journal_file.exclusive(self._state, WAIT_S))
            except OutputError as error:
                raise JournalError(errno.EBUSY, str(error), str(self._state)) from error
            yield

    def begin_part(self, paths: Iterable[str], digest: str) -> None:
        """Record which copies this shard may write, and of which split; inside `exclusive`.

        Raises OutputError if a running shard splits another selection, or in another number: both
        might write the same copy at once.
        """
        self._own = frozenset(paths)
        for other in _directories(self._state):
            if other != self._directory and _is_running(other):
                theirs = _plan(other).get("digest")
                if theirs is not None and theirs != digest:
                    raise OutputError(
                        f"{self._state.parent}: {other.name} of another selection, or of other"
                        " sizes, is running there",
                        hint="wait until it is done, or name another directory with -o",
                    )
        document = {"digest": digest, "paths": sorted(self._own)}
        content = json.dumps(document).encode("utf-8", "surrogatepass")
        self.sync()  # a plan without its rows would have them removed
        write_atomic(self._directory / _PLAN, content, is_shared=True)

    def close(self) -> None:
        """Move the rows to the directory's journal, and close this one."""
        try:
            rows = self.rows(self._own)
            with closing(self._whole()) as whole:
                whole.replace_rows(self._own, rows)
                whole.sync()
                super().close()
                _remove(self._directory)
        except (OSError, OutputError) as error:
            log.warning("the next prefetch moves the records of %s: %s", self._directory, error)
        finally:
            super().close()


def _directories(state: Path) -> list[Path]:
    return sorted(path for path in state.glob("shard-*-of-*") if path.is_dir())


def _is_running(directory: Path) -> bool:
    try:
        with journal_file.exclusive(directory, 0.0):
            return False
    except journal_file.InUse:
        return True


def _join(whole: Journal, directory: Path) -> None:
    """Move the rows of a shard that is not running."""
    with closing(Journal(directory)) as journal:
        paths = [path for path in _plan(directory).get("paths", []) if isinstance(path, str)]
        whole.replace_rows(paths, journal.rows(paths))
    whole.sync()
    _remove(directory)  # NFS removes no directory with open files


def _remove(directory: Path) -> None:
    """Remove the directory of a shard whose rows were moved.

    First the plan: without rows, it would have the rows removed where they were moved to.
    """
    (directory / _PLAN).unlink(missing_ok=True)
    try:
        shutil.rmtree(directory)
    except OSError as error:
        log.warning("%s cannot be removed; it is not needed any more: %s", directory, error)


def _plan(directory: Path) -> dict[str, Any]:
    """Return what a shard has recorded; nothing if it was still planning, or if it is damaged."""
    try:
        found = json.loads(read_regular(directory / _PLAN)[0])
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
