"""Writing of the index of an annotation: its windows, their words, phases and boxes."""

from __future__ import annotations

import os
import re
import secrets
import sqlite3
import time
from collections.abc import Iterable, Iterator
from contextlib import closing, suppress
from pathlib import Path

from ego4dfs import sqlite
from ego4dfs.annotations.boxes import boxes_of, has_parts, phases_of
from ego4dfs.annotations.rows import AFTER_MOMENT_S, Record
from ego4dfs.api.window_rows import WindowRow

SUFFIX = ".3.sqlite"
"""The end of the names of indexes; another schema needs another one."""

TEXT_CHARACTERS = 2000
"""How much of a text is kept. Those of Ego4D have some hundred characters."""

ABANDONED_S = 3600.0
"""How long an index that is being written is silent until it counts as abandoned."""

_LOCK_WAIT_S = 1.0
_PASS = re.compile(r"\.narration_pass_([0-9]{1,3})\.")
_NARRATION = ".narrations["
_KINDS = {".voice_segments[": "voices", ".tracking_paths[": "faces"}
"""Tracks beside that of the annotation, by the fields of their rows."""
_SCHEMA = """
PRAGMA journal_mode = OFF;
PRAGMA synchronous = OFF;
CREATE TABLE videos (id INTEGER PRIMARY KEY, uid TEXT, windows INTEGER);
CREATE TABLE tracks (id INTEGER PRIMARY KEY, name TEXT);
CREATE TABLE windows (
    id INTEGER PRIMARY KEY, video INTEGER, track INTEGER, start_s REAL, end_s REAL, text TEXT);
CREATE TABLE phases (window INTEGER, name TEXT, start_s REAL, end_s REAL);
CREATE TABLE boxes (
    window INTEGER, label TEXT, time_s REAL, x REAL, y REAL, width REAL, height REAL,
    picture_width REAL, picture_height REAL);
CREATE TABLE left_out (rows INTEGER, first TEXT);
CREATE VIRTUAL TABLE words USING fts5 (text, content = 'windows', content_rowid = 'id');
"""
_COMPLETE = """
INSERT INTO words (words) VALUES ('rebuild');
CREATE INDEX by_video ON windows (video);
CREATE INDEX phases_by_window ON phases (window);
CREATE INDEX boxes_by_window ON boxes (window);
"""


def write_index(path: Path, rows: Iterable[WindowRow], name: str) -> None:
    """Write the index of the annotation `name`; the file appears when it is complete.

    Rows without a window in a video are left out, and counted. Memory does not grow with their
    number. What a process left that was killed meanwhile is removed. Raises what `rows` raise,
    OSError, and sqlite3.Error; then nothing is left.
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
    left_out = _LeftOut()

    def values() -> Iterator[tuple[int, int, int, float, float, str]]:
        for place, row in enumerate(rows, 1):
            if row.problem or row.video_uid is None:
                left_out.add(row)
                continue
            video = videos.of(row.video_uid)
            counts.extend([0] * (video == len(counts)))
            counts[video] += 1
            start_s = row.end_s - AFTER_MOMENT_S if _NARRATION in row.row else row.start_s
            end_s = start_s if _NARRATION in row.row else row.end_s
            track = tracks.of(_track(row.row, name))
            if has_parts(row.record):
                _add_parts(connection, place, row.record)
            yield place, video, track, start_s, end_s, _storable(row.text)

    connection.executemany(
        "INSERT INTO windows (id, video, track, start_s, end_s, text) VALUES (?, ?, ?, ?, ?, ?)",
        values(),
    )
    connection.execute("INSERT INTO left_out VALUES (?, ?)", (left_out.rows, left_out.first))
    connection.executemany("INSERT INTO tracks VALUES (?, ?)", enumerate(tracks.texts))
    connection.executemany(
        "INSERT INTO videos VALUES (?, ?, ?)",
        ((number, uid, counts[number]) for number, uid in enumerate(videos.texts)),
    )


def _add_parts(connection: sqlite3.Connection, window: int, record: Record) -> None:
    """Add the phases and boxes of a window."""
    if phases := phases_of(record):
        rows = [(window, *phase) for phase in phases]
        connection.executemany("INSERT INTO phases VALUES (?, ?, ?, ?)", rows)
    if boxes := boxes_of(record):
        placed = [(window, _storable(box.label), *box[1:]) for box in boxes]
        connection.executemany("INSERT INTO boxes VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", placed)


class _LeftOut:
    """How many rows were left out, and why the first one was."""

    def __init__(self) -> None:
        self.rows = 0
        self.first = ""

    def add(self, row: WindowRow) -> None:
        self.rows += 1
        self.first = self.first or _storable(f"{row.row}: {row.problem or 'it has no video'}")


class _Numbers:
    """Numbers for texts, from 0 on."""

    def __init__(self) -> None:
        self.texts: dict[str, int] = {}

    def of(self, text: str) -> int:
        return self.texts.setdefault(_storable(text), len(self.texts))


def _track(row: str, name: str) -> str:
    found = _PASS.search(row)
    if found:
        return f"narration pass {found[1]}"
    kind = next((kind for field, kind in _KINDS.items() if field in row), "")
    return f"{name} {kind}".rstrip()


def _storable(text: str) -> str:
    """Return a text as SQLite can store it: a JSON file may have lone surrogates."""
    return text[:TEXT_CHARACTERS].encode("utf-8", "replace").decode()
