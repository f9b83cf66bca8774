"""The parser of manifest.csv: from bytes to entries, and a problem for each malformed row.

Pure: no disk, no network. The columns differ between datasets (see docs/reference/manifests.md).
The rules for names and locations are those of the official downloader (`ego4d` 1.7.3,
cli/manifest.py), extended to rows on which it fails.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Sequence
from dataclasses import dataclass

from ego4dfs.datasets import MANIFEST, MANIFEST_VER, university_of_bucket
from ego4dfs.manifest.csv_rows import CsvRow
from ego4dfs.manifest.entries import Entry, EntryPacker
from ego4dfs.manifest.header import LOCATION_COLUMNS, UID_COLUMNS, read_header

RELATED_UID_COLUMNS = ("video_uid", "exported_clip_uid", "clip_uid", "parent_video_uid")
RESERVED_NAMES = (MANIFEST, MANIFEST_VER, ".ego4dfs")
"""Names of the official tool's own files, and of our directory for incomplete files."""

_VIDEO_TYPES = ("mp4", "video")
_FILE_TYPES = ("file", "json")
_S3_URL = re.compile(r"s3://([^/\s]+)/(.*[^/])", re.DOTALL)
_UID_AT_START = re.compile(r"(grp-)?[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_SECONDS = re.compile(r"\d+(\.\d+)?", re.ASCII)
_MAX_NAME_BYTES = 255
_CHUNK_BYTES = 1 << 20
_PROBLEMS_KEPT = 1000


@dataclass(frozen=True, slots=True)
class Problem:
    """A problem in one row; rows are numbered from 1, the header."""

    manifest: str
    row: int
    column: str
    message: str

    def __str__(self) -> str:
        where = f"row {self.row}" + (f", column {self.column}" if self.column else "")
        return f"manifest {self.manifest}, {where}: {self.message}"


@dataclass(frozen=True, slots=True)
class Manifest:
    """The entries of one manifest.csv in its order, and the problems of its rows.

    `problems` has the first thousand; `problem_count` counts all.
    """

    name: str
    columns: tuple[str, ...]
    entries: Sequence[Entry]
    problems: tuple[Problem, ...]
    problem_count: int = 0


def parse(content: bytes, name: str) -> Manifest:
    """Parse the bytes of a manifest.csv; `name` is its name in messages.

    A row that cannot be used is left out and reported. A malformed row that can be used is kept
    and reported. Raises ManifestError if there is no usable header.
    """
    problems: list[Problem] = []
    _check_encoding(content, name, problems)
    header, rows = read_header(content, name)
    reader = _RowReader(name, header, problems)
    for record in rows:
        reader.read(record)
    entries = reader.packing.entries()
    return Manifest(name, tuple(header), entries, tuple(problems), reader.problem_count)


def _check_encoding(content: bytes, name: str, problems: list[Problem]) -> None:
    decoder = codecs.getincrementaldecoder("utf-8")()
    view = memoryview(content)
    try:
        for start in range(0, len(content), _CHUNK_BYTES):
            stop = start + _CHUNK_BYTES
            decoder.decode(view[start:stop], final=stop >= len(content))
    except UnicodeDecodeError as error:
        at = start - (len(error.object) - len(view[start:stop])) + error.start
        row = content.count(b"\n", 0, at) + 1
        problems.append(Problem(name, row, "", "holds bytes that are not UTF-8; shown as �"))


class _RowReader:
    """Converts the rows of one manifest into entries, in order, with unique file names.

    100,000 rows take a second or two, so values that rows share are computed once: the positions
    of columns, and the few different sets of words.
    """

    def __init__(self, name: str, header: Sequence[str], problems: list[Problem]) -> None:
        self._name = name
        self._problems = problems
        self.problem_count = len(problems)
        self._width = len(header)
        index = {column: i for i, column in reversed(list(enumerate(header)))}
        self._uid_column = next(c for c in UID_COLUMNS if c in index)
        self._location_column = next(c for c in LOCATION_COLUMNS if c in index)
        self._uid, self._location = index[self._uid_column], index[self._location_column]
        # An empty field is appended to each row; index -1 reads it for missing columns.
        self._type, self._source, self._annotation, self._parent, self._tags = (
            index.get(column, -1)
            for column in ("type", "video_source", "annotation", "parent_video_uid", "benchmarks")
        )
        self._ends = [index.get(f"parent_{end}_sec", -1) for end in ("start", "end")]
        self._related = [index[c] for c in RELATED_UID_COLUMNS if c in index]
        self._splits = [(c.removeprefix("split_"), index[c]) for c in index if c[:6] == "split_"]
        self.packing = EntryPacker()
        # By plain name: the next number to try, and the row of each URL with a smaller number.
        # Without it, 26,000 rows of one name would be compared with each other, for minutes.
        self._tried: dict[str, tuple[int, dict[str, int]]] = {}
        self._sets: dict[tuple[str, ...], frozenset[str]] = {}

    def read(self, record: CsvRow) -> None:
        """Pack the entry of a row, if the row can be used."""
        entry = self.entry(record)
        if entry is not None and not self.packing.add(entry):
            self._skip(record.number, "", "contains a NUL character")

    def entry(self, record: CsvRow) -> Entry | None:
        """Return the entry of a row; None, with a problem reported, if it cannot be used."""
        row, fields = record.number, self._fields(record)
        location = self._location_of(row, fields) if fields else None
        if location is None:
            return None
        url, bucket, key = location
        uid = fields[self._uid].strip()
        is_video = self._is_video(fields)
        plain = f"{uid}.mp4" if is_video else key.rpartition("/")[2]
        name = self._unique_name(row, plain, url)
        if name is None:
            return None
        if is_video and not uid:
            self._skip(row, self._uid_column, "is empty")
            return None
        return Entry(
            row,
            name,
            uid,
            url,
            self._uids(fields, uid, name, is_video=is_video),
            self._benchmarks(row, fields),
            self._set(university_of_bucket(bucket), fields[self._source].strip().lower()),
            fields[self._annotation].strip().lower(),
            self._split_of(fields),
            fields[self._parent].strip().lower(),
            self._window(fields),
        )

    def _fields(self, record: CsvRow) -> list[str]:
        """Return as many fields as the header has, and an empty one; [] for an empty row."""
        fields = record.fields
        if record.is_damaged:
            self._report(record.number, "", "has a quote that is not closed; read without it")
        if len(fields) != self._width:
            if not any(field.strip() for field in fields):
                self._skip(record.number, "", "is empty")
                return []
            what = f"has {len(fields)} fields where the header has {self._width}"
            self._report(record.number, "", what)
            fields = [*fields, *[""] * self._width][: self._width]
        return [*fields, ""]

    def _location_of(self, row: int, fields: list[str]) -> tuple[str, str, str] | None:
        """Return the URL of a row, its bucket and its key; None if it has no valid one."""
        url = fields[self._location].strip()
        location = _S3_URL.fullmatch(url)
        if location is not None:
            return url, location[1], location[2]
        if not any(field.strip() for field in fields):
            self._skip(row, "", "is empty")
        else:
            what = f"{url!r} is not s3://bucket/key" if url else "is empty"
            self._skip(row, self._location_column, what)
        return None

    def _is_video(self, fields: list[str]) -> bool:
        kind = fields[self._type].strip()
        if kind in _VIDEO_TYPES or kind in _FILE_TYPES:
            return kind in _VIDEO_TYPES
        return self._uid_column != "file_uid"

    def _unique_name(self, row: int, name: str, url: str) -> str | None:
        """Return the plain name for the first row that has it, then `stem~2.ext` and so on."""
        if name in ("", ".", "..") or "/" in name or "\0" in name:
            self._skip(row, "", f"gives no usable file name ({name!r})")
            return None
        number, row_of = self._tried.get(name, (1, {}))
        candidate = numbered(name, number)
        while url not in row_of and (taken := self._taken(candidate)):
            row_of.setdefault(taken[1], taken[0])
            number += 1
            candidate = numbered(name, number)
        if number > 1:
            self._tried[name] = number, row_of
        if url in row_of:
            self._report(row, "", f"repeats row {row_of[url]} ({name}); shown once")
            return None
        if len(candidate.encode()) > _MAX_NAME_BYTES:
            what = f"file name is longer than {_MAX_NAME_BYTES} bytes"
            self._skip(row, "", what)
            return None
        if number > 1:
            first = self._taken(name)
            whose = f"row {first[0]}" if first and first[0] else "the dataset's own file"
            self._report(row, "", f"name {name} is taken by {whose}; shown as {candidate}")
        return candidate

    def _taken(self, name: str) -> tuple[int, str] | None:
        return (0, "") if name in RESERVED_NAMES else self.packing.find(name)

    def _uids(self, fields: list[str], uid: str, name: str, *, is_video: bool) -> frozenset[str]:
        places = [*self._related, self._parent] if is_video else [self._parent]
        found = {fields[place].strip().lower() for place in places}
        if is_video or (uid and name.startswith(uid)):
            lower = uid.lower()
            found.discard(lower)
            found.add(uid if uid == lower else lower)  # shares one string with the entry
        named = _UID_AT_START.match(name)
        if named:
            found.add(named.group().lower())
        found.discard("")
        return frozenset(found) if found else self._set()

    def _split_of(self, fields: list[str]) -> frozenset[str]:
        found = []
        for benchmark, place in self._splits:
            split = fields[place].strip().lower()
            if split:
                found.append(f"{benchmark}:{split}")
        return self._set(*found)

    def _window(self, fields: list[str]) -> tuple[float, float] | None:
        start, stop = (fields[place].strip() for place in self._ends)
        is_given = start and stop and _SECONDS.fullmatch(start) and _SECONDS.fullmatch(stop)
        return (float(start), float(stop)) if is_given else None

    def _benchmarks(self, row: int, fields: list[str]) -> frozenset[str] | None:
        if self._tags == -1:
            return None
        cell = "".join(fields[self._tags].lower().split())
        inner = cell.removeprefix("[").removesuffix("]")
        if cell and cell != f"[{inner}]":
            self._report(row, "benchmarks", f"{cell!r} has no brackets; read as [{inner}]")
        return self._set(*inner.split("|"))

    def _set(self, *words: str | None) -> frozenset[str]:
        """Return the words that are not empty; rows share equal sets, of 216 bytes or more."""
        given = tuple(word for word in words if word)
        found = self._sets.get(given)
        if found is None:
            found = self._sets[given] = frozenset(given)
        return found

    def _skip(self, row: int, column: str, what: str) -> None:
        self._report(row, column, f"{what}; left out")

    def _report(self, row: int, column: str, message: str) -> None:
        self.problem_count += 1
        if len(self._problems) < _PROBLEMS_KEPT:
            self._problems.append(Problem(self._name, row, column, message))


def numbered(name: str, number: int) -> str:
    """Return `name` for 1, else `stem~number.ext`."""
    if number == 1:
        return name
    stem, dot, suffix = name.rpartition(".")
    return f"{stem}~{number}.{suffix}" if dot else f"{name}~{number}"
