"""TextIndex: the windows of one annotation in a SQLite database, by video and by words (FTS5).

`index_writer.py` has its schema.
"""

from __future__ import annotations

import itertools
import re
import sqlite3
from collections.abc import Collection, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

from ego4dfs import sqlite
from ego4dfs.annotations.boxes import Box

MAX_SEGMENTS = 10_000
"""Segments of a video that are returned at most. The longest videos of Ego4D have about as many."""
MAX_CHARACTERS = 4 << 20
"""Characters of all their texts, at most."""
MAX_BOXES = 20_000
"""Boxes of a video that are returned at most."""
MAX_EXAMINED = 100_000
"""Matches that a search looks at, at most, to find some of the selected videos."""

_LEAST_START = 3  # letters; "t" is the start of most texts
_LOCK_WAIT_S = 1.0
_WORDS = re.compile(r'"([^"]*)"|(\S+)')
_SELECT = """
SELECT uid, name, start_s, end_s, text FROM windows
JOIN videos ON videos.id = video JOIN tracks ON tracks.id = track
"""
_OF_VIDEO = f"{_SELECT} WHERE videos.id = (SELECT id FROM videos WHERE uid = ?)"  # noqa: S608
_IN_VIDEO = "WHERE windows.video = (SELECT id FROM videos WHERE uid = ?1)"
_PHASES = f"""
SELECT ?1, tracks.name || ' ' || phases.name, phases.start_s, phases.end_s, text
FROM windows JOIN phases ON phases.window = windows.id JOIN tracks ON tracks.id = track {_IN_VIDEO}
"""  # noqa: S608
_COUNT = f"""
SELECT (SELECT COUNT(*) FROM windows {_IN_VIDEO})
  + (SELECT COUNT(*) FROM windows JOIN phases ON phases.window = windows.id {_IN_VIDEO})
"""  # noqa: S608
_BOXES = f"""
SELECT tracks.name, windows.id, label, time_s, x, y, width, height, picture_width, picture_height
FROM windows JOIN boxes ON boxes.window = windows.id JOIN tracks ON tracks.id = track {_IN_VIDEO}
ORDER BY windows.id, label, time_s
"""  # noqa: S608
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


class Moved(NamedTuple):
    """An object that moves: its track, what it is, and its boxes in the order of their times."""

    track: str
    label: str
    boxes: list[Box]


class OfVideo(NamedTuple):
    """What an annotation has of one video.

    The phases of actions are segments of tracks of their own, after the others. `more` and
    `more_boxes` say how many segments, and whether boxes, are left out because there are too many.
    """

    segments: list[Segment]
    moved: list[Moved]
    more: int = 0
    more_boxes: bool = False


class TextIndex:
    """A complete index, which never changes. Safe from several threads.

    All methods raise sqlite3.Error for a file that is damaged.
    """

    def __init__(self, path: Path) -> None:
        """Use a file that `write_index` has made."""
        self.path = path

    def of_video(self, uid: str) -> OfVideo:
        """Return the segments and boxes of a video, the first ones if there are very many."""
        with self._open() as connection:
            queries = [connection.execute(query, (uid,)) for query in (_OF_VIDEO, _PHASES)]
            segments = list(_bounded(Segment(*row) for row in itertools.chain(*queries)))
            (total,) = connection.execute(_COUNT, (uid,)).fetchone()
            boxes = connection.execute(_BOXES, (uid,)).fetchmany(MAX_BOXES + 1)
            return OfVideo(
                segments,
                _moved(boxes[:MAX_BOXES]),
                total - len(segments),
                len(boxes) > MAX_BOXES,
            )

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

    def left_out(self) -> tuple[int, str]:
        """Return how many rows of the annotation name no window, and what is wrong with one."""
        with self._open() as connection:
            found = connection.execute("SELECT rows, first FROM left_out").fetchone()
        rows, first = found or (0, "")
        return rows, first

    def _open(self) -> closing[sqlite3.Connection]:
        # Nobody writes to it, so SQLite need not look for a journal, and takes no locks.
        uri = f"{self.path.absolute().as_uri()}?mode=ro&immutable=1"
        return closing(sqlite.connect(uri, lock_wait_s=_LOCK_WAIT_S))


def is_unusable(error: sqlite3.Error) -> bool:
    """Return whether an error says that an index is damaged, or was cut: it is never empty."""
    return sqlite.is_damaged(error) or "no such table" in str(error)


def _bounded(segments: Iterator[Segment]) -> Iterator[Segment]:
    characters = 0
    for segment in itertools.islice(segments, MAX_SEGMENTS):
        characters += len(segment.text)
        if characters > MAX_CHARACTERS:
            return
        yield segment


def _moved(rows: list[tuple[Any, ...]]) -> list[Moved]:
    """Return the objects whose boxes are rows of _BOXES, in its order."""
    return [
        Moved(track, label, [Box(*row[2:]) for row in found])
        for (track, _, label), found in itertools.groupby(rows, key=lambda row: row[:3])
    ]


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
