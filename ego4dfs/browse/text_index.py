"""TextIndex: the windows of one annotation in a SQLite database, by video and by words (FTS5)."""

from __future__ import annotations

import itertools
import os
import re
import secrets
import sqlite3
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import closing, suppress
from pathlib import Path
from typing import NamedTuple

from ego4dfs import sqlite
from ego4dfs.annotations.rows import AFTER_MOMENT_S
from ego4dfs.api.window_rows import WindowRow

TEXT_CHARACTERS = 2000
"""How much of a text is kept. Those of Ego4D have some hundred characters."""
MAX_EXAMINED = 100_000
"""Matches that a search looks at, at most, to find some of the selected videos."""

ABANDONED_S = 3600.0
"""How long an index that is being written is silent until it counts as abandoned."""

_LEAST_START = 3  # letters; "t" is the start of most texts
_LOCK_WAIT_S = 1.0
_PASS = re.compile(r"\.narration_pass_([0-9]{1,3})\.")
_NARRATION = ".narrations["
_WORDS = re.compile(r'"([^"]*)"|(\S+)')
_SCHEMA = """
PRAGMA journal_mode = OFF;
PRAGMA synchronous = OFF;
CREATE TABLE videos (id INTEGER PRIMARY KEY, uid TEXT, windows INTEGER);
CREATE TABLE tracks (id INTEGER PRIMARY KEY, name TEXT);
CREATE TABLE windows (
    id INTEGER PRIMARY KEY, video INTEGER, track INTEGER, start_s REAL, end_s REAL, text TEXT);
CREATE VIRTUAL TABLE words USING fts5 (text, content = 'windows', content_rowid = 'id');
"""
_COMPLETE = """
INSERT INTO words (words) VALUES ('rebuild');
CREATE INDEX by_video ON windows (video);
"""
_SELECT = """
SELECT uid, name, start_s, end_s, text FROM windows
JOIN videos ON videos.id = video JOIN tracks ON tracks.id = track
"""
_OF_VIDEO = f"{_SELECT} WHERE videos.id = (SELECT id FROM videos WHERE uid = ?)"  # noqa: S608
_OF_WORDS = (
    "SELECT uid, name, start_s, end_s, windows.text FROM words"
    " JOIN windows ON windows.id = words.rowid"
    " JOIN videos ON videos.id = video JOIN tracks ON tracks.id = track"
    " WHERE words MATCH ?"
)


class Segment(NamedTuple):
    """Some seconds of a video, and what the annotation says; a narration has no length."""

    uid: str
    track: str
    start_s: float
    end_s: float
    text: str


class TextIndex:
    """A complete index, which never changes. Safe from several threads.

    All methods raise sqlite3.Error for a file that is damaged.
    """

    def __init__(self, path: Path) -> None:
        """Use a file that `write_index` has made."""
        self.path = path

    def of_video(self, uid: str) -> list[Segment]:
        """Return the segments of a video."""
        with self._open() as connection:
            return [Segment(*row) for row in connection.execute(_OF_VIDEO, (uid,))]

    def search(self, words: str, uids: Collection[str], limit: int) -> list[Segment]:
        """Return segments of these videos whose text has all words, at most `limit`, in order.

        Words in quotes must be adjacent. If there are fewer than `limit`, the last word may be the
        start of one: all words that begin so are merged, which takes 100 ms for "the".
        """
        found: list[Segment] = []
        with self._open() as connection:
            for query in match_queries(words):
                rows = connection.execute(_OF_WORDS, (query,))
                examined = itertools.islice(rows, MAX_EXAMINED)
                selected = (Segment(*row) for row in examined if row[0] in uids)
                more = list(itertools.islice(selected, limit))
                found = max(more, found, key=len)  # of many others not all could be examined
                if len(found) == limit:
                    break
        return found

    def counts(self) -> Mapping[str, int]:
        """Return the number of segments by video."""
        with self._open() as connection:
            return dict(connection.execute("SELECT uid, windows FROM videos"))

    def _open(self) -> closing[sqlite3.Connection]:
        # Nobody writes to it, so SQLite need not look for a journal, and takes no locks.
        uri = f"{self.path.absolute().as_uri()}?mode=ro&immutable=1"
        return closing(sqlite.connect(uri, lock_wait_s=_LOCK_WAIT_S))


def match_queries(words: str) -> list[str]:
    """Return the queries of FTS5 for what a person writes; nothing of it is an operator.

    The second one takes the last word for the start of one, if it is not too short for that.
    """
    found = [quoted or plain for quoted, plain in _WORDS.findall(words.replace("\0", " "))]
    terms = [text.replace('"', "") for text in found if text.strip('" ')]
    if not terms:
        return []
    query = " ".join(f'"{term}"' for term in terms)
    return [query, f"{query}*"] if len(terms[-1]) >= _LEAST_START else [query]


def write_index(path: Path, rows: Iterable[WindowRow], name: str) -> None:
    """Write the index of the annotation `name`; the file appears when it is complete.

    Rows without a window in a video are left out. Memory does not grow with their number. What a
    process left that was killed meanwhile is removed. Raises what `rows` raise, OSError, and
    sqlite3.Error; then nothing is left.
    """
    _remove_abandoned(path.parent)
    partial = path.with_name(f".{path.name}.{secrets.token_hex(6)}.part")
    os.close(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    try:
        with closing(sqlite.connect(partial, lock_wait_s=_LOCK_WAIT_S)) as connection:
            connection.executescript(_SCHEMA)
            with sqlite.transaction(connection):
                _fill(connection, rows, name)
            connection.executescript(_COMPLETE)
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def _remove_abandoned(directory: Path) -> None:
    for partial in directory.glob(".*.part"):
        with suppress(FileNotFoundError):
            if time.time() - partial.stat().st_mtime > ABANDONED_S:
                partial.unlink()


def _fill(connection: sqlite3.Connection, rows: Iterable[WindowRow], name: str) -> None:
    videos, tracks, counts = _Numbers(), _Numbers(), list[int]()

    def values() -> Iterator[tuple[int, int, float, float, str]]:
        for row in rows:
            if row.problem or row.video_uid is None:
                continue
            video = videos.of(row.video_uid)
            counts.extend([0] * (video == len(counts)))
            counts[video] += 1
            start_s = row.end_s - AFTER_MOMENT_S if _NARRATION in row.row else row.start_s
            end_s = start_s if _NARRATION in row.row else row.end_s
            track = tracks.of(_track(row.row, name))
            yield video, track, start_s, end_s, _storable(row.text)

    connection.executemany(
        "INSERT INTO windows (video, track, start_s, end_s, text) VALUES (?, ?, ?, ?, ?)", values()
    )
    connection.executemany("INSERT INTO tracks VALUES (?, ?)", enumerate(tracks.texts))
    connection.executemany(
        "INSERT INTO videos VALUES (?, ?, ?)",
        ((number, uid, counts[number]) for number, uid in enumerate(videos.texts)),
    )


class _Numbers:
    """Numbers for texts, from 0 on."""

    def __init__(self) -> None:
        self.texts: dict[str, int] = {}

    def of(self, text: str) -> int:
        return self.texts.setdefault(_storable(text), len(self.texts))


def _track(row: str, name: str) -> str:
    found = _PASS.search(row)
    return f"narration pass {found[1]}" if found else name


def _storable(text: str) -> str:
    """Return a text as SQLite can store it: a JSON file may have lone surrogates."""
    return text[:TEXT_CHARACTERS].encode("utf-8", "replace").decode()
