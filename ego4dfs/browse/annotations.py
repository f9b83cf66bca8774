"""AnnotationIndexes: the indexes of the selected annotations, built in the background."""

from __future__ import annotations

import logging
import sqlite3
import threading
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Literal, TypeVar

from ego4dfs.annotations import read_windows
from ego4dfs.api.video_files import VideoFiles
from ego4dfs.api.window_rows import WindowRow, WindowRows
from ego4dfs.browse.derived import Derived, derived_directory
from ego4dfs.browse.index_writer import SUFFIX, write_index
from ego4dfs.browse.text_index import OfVideo, Segment, TextIndex, is_unusable
from ego4dfs.browse.tree_file import TreeFile
from ego4dfs.catalog import Selection
from ego4dfs.config import Config
from ego4dfs.datasets import known_names, version_directory
from ego4dfs.errors import CacheError, ConfigError, Ego4DError
from ego4dfs.text import printable
from ego4dfs.vfs import VFS
from ego4dfs.vfs.tree import join

log = logging.getLogger(__name__)

CLOSE_S = 5.0
_DATASET = "annotations"
_SUFFIX = ".json"
_NARRATIONS = "narration"  # the annotation whose rows are counted
_MAX_INTERRUPTED = 5
_MAX_DAMAGED = 3

_BAD_DISK = "check the disk of the cache, or name another directory with --cache-dir"

State = Literal["waiting", "reading", "ready", "failed"]
_Result = TypeVar("_Result")


@dataclass(slots=True)
class Annotation:
    """One annotation, and how far its index is."""

    name: str
    path: str
    state: State = "waiting"
    problem: str = ""
    file: TreeFile | None = None
    index: TextIndex | None = None
    interrupted: int = 0  # how often its index was removed before it was complete
    damaged: int = 0  # how often its index was found damaged


class AnnotationIndexes:
    """The annotations of a selection: their segments by video, and a search in their texts.

    A thread builds what is not kept from an earlier run: small files first, each once for its
    ETag, and again if it was damaged, or removed as by `ego4dfs cache clear --all`. What is
    complete is used meanwhile. Safe from several threads: the thread sets `index`, and then
    `state`, of each annotation, and requests read them, and reset both to build again.
    """

    def __init__(self, vfs: VFS, config: Config) -> None:
        """Describe the annotations of `config`; `start` begins to build their indexes."""
        self._vfs = vfs
        self._config = config
        self._waiting: SimpleQueue[Annotation | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._annotations: list[Annotation] = []
        self._problem = ""
        self._is_listed = False
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="ego4dfs-annotations", daemon=True)

    def start(self) -> None:
        """Begin to build."""
        self._thread.start()

    def close(self) -> None:
        """Stop; an index that is not complete is built again by the next start."""
        self._stopped.set()
        self._waiting.put(None)
        if self._thread.ident is not None:
            self._thread.join(CLOSE_S)

    def progress(self) -> dict[str, object]:
        """Return how far each annotation is, in bytes, and whether all are finished."""
        found = [_described(one) for one in self._annotations]
        is_done = self._is_listed and all(one["state"] in {"ready", "failed"} for one in found)
        return {"annotations": found, "is_done": is_done, "problem": printable(self._problem)}

    def of_video(self, uid: str) -> list[tuple[str, OfVideo]]:
        """Return what each annotation that is ready has of a video, with its name."""
        return list(self._each(lambda index: index.of_video(uid)))

    def search(self, words: str, uids: Collection[str], limit: int) -> list[list[Segment]]:
        """Return what each annotation that is ready has, at most `limit` segments of each."""
        return [found for _, found in self._each(lambda index: index.search(words, uids, limit))]

    def narration_counts(self) -> Mapping[str, int]:
        """Return the number of narrations by video; empty until they are ready."""
        total = Counter[str]()
        for _, counts in self._each(TextIndex.counts, only=_NARRATIONS):
            total.update(counts)
        return total

    def _each(
        self, use: Callable[[TextIndex], _Result], only: str = ""
    ) -> Iterator[tuple[str, _Result]]:
        for one in list(self._annotations):
            index = one.index
            if index is None or (only and one.name != only):
                continue
            try:
                yield one.name, use(index)
            except sqlite3.Error as error:
                is_damaged = is_unusable(error)
                if is_damaged or not index.path.exists():
                    self._build_again(one, index, is_damaged=is_damaged)
                else:  # such as too many open files: it is complete, and is used again
                    log.warning("the index of %s cannot be read: %s", one.name, error)

    def _build_again(self, one: Annotation, lost: TextIndex, *, is_damaged: bool) -> None:
        """Build an index again that is damaged, or was removed; not for ever on a bad disk."""
        with self._lock:
            if one.index is not lost:  # another request has found it before
                return
            with suppress(OSError):
                lost.path.unlink(missing_ok=True)
            one.damaged += is_damaged
            if one.damaged > _MAX_DAMAGED:
                self._fail(one, f"its index was damaged {one.damaged} times; {_BAD_DISK}")
                return
            reason = "damaged" if is_damaged else "removed"
            one.problem = f"its index was {reason}, and is made again"
            one.index, one.file, one.state = None, None, "waiting"
        log.warning("the index of %s was %s, and is made again", one.name, reason)
        self._waiting.put(one)

    def _run(self) -> None:
        try:
            self._annotations = self._listed()
        except Ego4DError as error:
            self._problem = str(error)
        self._is_listed = True
        waiting = [one for one in self._annotations if self._open(one)]
        for one in sorted(waiting, key=lambda one: one.file.size if one.file else 0):
            self._waiting.put(one)
        while (found := self._waiting.get()) is not None and not self._stopped.is_set():
            if found.file is not None or self._open(found):
                self._build(found)

    def _listed(self) -> list[Annotation]:
        if _DATASET not in (self._config.datasets or known_names()):
            return []
        directory = join(version_directory(self._config.version), _DATASET)
        entries = self._vfs.session.catalog.listing(_DATASET).entries
        names = sorted(entry.name for entry in entries if entry.name.endswith(_SUFFIX))
        return [Annotation(name.removesuffix(_SUFFIX), join(directory, name)) for name in names]

    def _open(self, one: Annotation) -> bool:
        """Open an annotation, and return whether its index must be built."""
        try:
            if not self._stopped.is_set():
                one.file = TreeFile(self._vfs, one.path)
        except (Ego4DError, OSError) as error:
            self._fail(one, str(error))
        if one.file is None:
            return False
        try:
            path = self._derived(one.file).path
        except CacheError as error:
            self._fail(one, str(error))
            return False
        if path.exists():
            self._set_ready(one, path)
        return one.index is None

    def _build(self, one: Annotation) -> None:
        if one.file is None:
            return
        one.state = "reading"
        catalog = self._vfs.session.with_selection(Selection()).catalog
        # Without datasets of videos no row is left out: an index is for every selection.
        rows = WindowRows(catalog, VideoFiles(catalog, ()))
        try:
            kept = self._derived(one.file)
            windows = rows.of(read_windows(one.file.chunks(), has_people=True))
            write_index(kept.path, self._until_stopped(windows), one.name)
            kept.remove_older()
        except _Stopped:
            return
        except ConfigError as error:  # it is of another kind, such as a taxonomy
            one.problem, one.state = str(error), "failed"
            log.info("%s is not searched: %s", one.path, error)
            return
        except FileNotFoundError as error:  # it was removed before it was complete
            one.file = None
            one.interrupted += 1
            if one.interrupted < _MAX_INTERRUPTED:
                self._waiting.put(one)
            else:
                self._fail(one, str(error))
            return
        except (Ego4DError, OSError, sqlite3.Error) as error:
            self._fail(one, str(error))
            return
        if not self._set_ready(one, kept.path):
            self._fail(one, f"its new index cannot be read; {_BAD_DISK}")

    def _set_ready(self, one: Annotation, path: Path) -> bool:
        """Use a complete index; False if it is damaged, and was removed."""
        index, left_out, first = TextIndex(path), 0, ""
        try:
            left_out, first = index.left_out()
        except sqlite3.Error as error:  # one that passes is ignored: it is read again at each use
            if is_unusable(error):
                log.warning("the index of %s is damaged, and is made again", one.name)
                with suppress(OSError):
                    path.unlink(missing_ok=True)
                return False
        if one.file is not None:
            one.file.read_bytes = one.file.size
        one.problem = f"{left_out} rows name no window; the first is {first}" if left_out else ""
        one.index = index
        one.state = "ready"
        return True

    def _until_stopped(self, rows: Iterable[WindowRow]) -> Iterator[WindowRow]:
        for row in rows:
            if self._stopped.is_set():
                raise _Stopped
            yield row

    def _derived(self, file: TreeFile) -> Derived:
        directory = derived_directory(self._vfs.session, self._config)  # it may have been removed
        return Derived(directory, file.url, file.etag, SUFFIX)

    def _fail(self, one: Annotation, reason: str) -> None:
        one.index, one.problem, one.state = None, reason, "failed"
        log.warning("%s is not searched: %s", one.path, reason)


def _described(one: Annotation) -> Mapping[str, object]:
    file = one.file
    return {
        "name": printable(one.name),
        "state": one.state,
        "problem": printable(one.problem),
        "read_bytes": file.read_bytes if file else 0,
        "bytes": file.size if file else 0,
    }


class _Stopped(Exception):  # noqa: N818 - it is no error
    """The server ends."""
