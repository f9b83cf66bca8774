"""Targets: the journal of copies, facts of objects and the index of the cache, all in SQLite."""

from __future__ import annotations

import functools
import os
import sqlite3
import tempfile
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path

from hypothesis import strategies as st

from ego4dfs.cache import BlockCache, prepare_directory
from ego4dfs.copies import Copies, Journal
from ego4dfs.copies.etag_trust import BucketEtags
from ego4dfs.copies.journal import JournalError
from ego4dfs.copies.record import Record
from ego4dfs.copies.rule import Context, FileState, judge
from ego4dfs.errors import CacheError, OutputError
from ego4dfs.facts import FactsIndex
from ego4dfs.files import Folder
from ego4dfs.prefetch.part_file import PartFile
from ego4dfs.store import ObjectFacts
from kit.cache import block_file, bytes_of, got, key_of, open_cache, put
from kit.fakes import CountingStore
from kit.fuzz.inputs import EDITS, SAME_LENGTH, Edit, edited
from kit.fuzz.target import Target, assert_clear

URL, OTHER = "s3://b/a", "s3://b/bb"
_PATH = "v2/clips/a.mp4"
_DATA = b"0123456789"


@dataclass(frozen=True)
class Value:
    """A value put into a column of all rows of a table, which may have no constraints."""

    table: str
    column: str
    expression: str

    def put(self, database: sqlite3.Connection) -> None:
        """Change the rows; ones that would break a constraint stay."""
        with suppress(sqlite3.Error):
            database.execute(f"UPDATE OR IGNORE {self.table} SET {self.column} = {self.expression}")  # noqa: S608


_EXPRESSIONS = st.one_of(
    st.sampled_from(["NULL", "''", "-1", "0", "1e999", "-1e999", "0.5", "zeroblob(9)", "x'ff'"]),
    st.sampled_from(
        ["CAST(x'fffe' AS TEXT)", "CAST(x'00' AS TEXT)", "'../../x'", "'/etc/x'", "'x'"]
    ),
    st.sampled_from(["9223372036854775807", "-9223372036854775808", "'\u202e'", "1", "2"]),
    st.integers(-(2**63) + 1, 2**63 - 1).map(str),
    st.text("ab'/.~", max_size=9).map(lambda text: "'" + text.replace("'", "''") + "'"),
)


def _values(columns: dict[str, str]) -> st.SearchStrategy[list[Value]]:
    places = [(table, column) for table, names in columns.items() for column in names.split()]
    value = st.tuples(st.sampled_from(places), _EXPRESSIONS).map(lambda v: Value(*v[0], v[1]))
    return st.lists(value, min_size=1, max_size=3)


JOURNAL = {
    "files": "path url source release size etag version_id mtime_ns checksum",
    "downloads": "path url etag size part_name",
    "ranges": "path start stop boot",
    "checked": "path at",
    "evidence": "source bucket kind detail",
    "times": "path mtime_ns",
}
FACTS = {
    "facts": "url size etag version_id mtime_ns proof",
    "confirmed": "url size etag proof",
    "refusals": "url missing message at proof",
}
INDEX = {
    "Settings": "key value",
    "Cache": "key raw store_time expire_time access_time access_count tag size mode filename value",
}
Damage = tuple[list[Edit], list[Value], bool]


def damage(columns: dict[str, str], is_loose: st.SearchStrategy[bool]) -> st.SearchStrategy[Damage]:
    """Return changed bytes or changed values; with True, in tables without constraints."""
    edits = st.lists(st.one_of(SAME_LENGTH, SAME_LENGTH, EDITS), min_size=1, max_size=8)
    return st.one_of(
        st.tuples(edits, st.just([]), st.just(value=False)),
        st.tuples(st.just([]), _values(columns), is_loose),
    )


def apply_damage(damage: Damage, sound: bytes, path: Path) -> None:
    """Write a damaged copy of a database to a path."""
    edits, values, is_loose = damage
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(edited(sound, edits))
    if not values:
        return
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.execute("PRAGMA journal_mode = DELETE")
        if is_loose:
            _loosen(database)
        for value in values:
            value.put(database)


def _loosen(database: sqlite3.Connection) -> None:
    """Replace the tables by ones without types and constraints, as another program may."""
    query = "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
    for (name,) in database.execute(query).fetchall():
        database.execute(f"CREATE TABLE loose AS SELECT * FROM {name}")  # noqa: S608
        database.execute(f"DROP TABLE {name}")
        database.execute(f"ALTER TABLE loose RENAME TO {name}")


def _content(path: Path) -> bytes:
    """Return a database without its log."""
    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA journal_mode = DELETE")
    return path.read_bytes()


@functools.cache
def _sound_journal() -> bytes:
    with tempfile.TemporaryDirectory() as directory:
        state = Path(directory, ".ego4dfs")
        state.mkdir()
        with closing(Journal(state)) as journal:
            facts = ObjectFacts(len(_DATA), "e" * 32, "v1", 7 * 10**9)
            record = Record(URL, "memory", "v2", facts, "md5", set_mtime_ns=9)
            journal.complete([(_PATH, record), ("v2/clips/b~2.mp4", record)])
            journal.begin("v2/clips/c.mp4", URL, facts, ".ego4dfs/c.mp4.part")
            for start in (0, 4):
                journal.written("v2/clips/c.mp4", start, start + 2)
            journal.synced("v2/clips/c.mp4", [(0, 2)])
            journal.note_evidence("memory", "b", "parts", str(8 << 20))
            journal.note_evidence("memory", "c", "disagreed", "s3://c/x")
        return _content(state / "journal.sqlite")


def _check_journal(damage: Damage, root: Path) -> None:
    """What can be read is used; otherwise one error says what to do with the journal."""
    path = root / ".ego4dfs/journal.sqlite"
    apply_damage(damage, _sound_journal(), path)
    directory = root / "v2/clips"
    directory.mkdir(parents=True)
    (directory / "a.mp4").write_bytes(_DATA)
    os.utime(directory / "a.mp4", ns=(9, 9))
    _serve(root)
    for read_only in (True, False):
        try:
            with closing(Journal(path.parent, read_only=read_only)) as journal:
                _use(journal, directory)
        except OutputError as error:
            assert_clear(error)
        except JournalError:
            assert not read_only


def _serve(root: Path) -> None:
    """Look for copies as a mount does, for which an unreadable journal is no error."""
    facts = ObjectFacts(len(_DATA), "e" * 32, "v1", 7 * 10**9)
    with closing(Copies(root, "memory", lambda _message: None)) as copies:
        for path in (_PATH, "ego4d.json"):
            copies.facts(path, URL)
            copies.find_valid(path, URL, facts)
            copies.recorded_facts(path, URL)


def _use(journal: Journal, directory: Path) -> None:
    """Do all that prefetch does with a journal."""
    facts = ObjectFacts(len(_DATA), "e" * 32, "v1", 7 * 10**9)
    etags = BucketEtags(journal, "memory")
    records = dict(journal.records())
    for path, record in [*records.items(), *journal.records("v2/clips")]:
        judge(FileState(len(_DATA), 9), record, None, facts, Context(source="memory"))
        etags.are_checksums(record.url)
        journal.is_complete(path)
    assert all(count >= 0 for count in journal.partial_bytes().values())
    if journal.writable:
        journal.confirm([_PATH])
        with Folder.at(directory) as folder, suppress(OSError):
            part = PartFile(folder, "v2/clips/c.mp4", URL, facts, journal)
            assert all(0 <= start < stop <= facts.size for start, stop in part.missing)
            part.close()
        journal.complete([(_PATH, Record(URL, "memory", "v2", facts, "md5"))])
        assert dict(journal.records())[_PATH].facts == facts


@functools.cache
def _sound_facts() -> bytes:
    with tempfile.TemporaryDirectory() as directory:
        index = FactsIndex(Path(directory), _store())
        index.record(URL, index.get(URL).confirmed())
        index.get(OTHER)
        with suppress(Exception):
            index.get("s3://b/missing")
        index.close()
        return _content(Path(directory, "facts.sqlite"))


def _store() -> CountingStore:
    return CountingStore({URL: _DATA, OTHER: b"x" * 99})


def _check_facts(damage: Damage, directory: Path) -> None:
    """Facts are those of the store, or the table cannot be opened."""
    apply_damage(damage, _sound_facts(), directory / "facts.sqlite")
    store = _store()
    for _ in range(2):
        try:
            index = FactsIndex(directory, store)
        except CacheError as error:
            assert_clear(error)
            return
        for url in (URL, OTHER):
            known = index.peek(url)
            assert known is None or known == store.facts_of(url)
            assert index.get(url) == store.facts_of(url)
        files, size = index.totals()
        assert files >= 0
        assert size >= 0
        index.remove(OTHER)
        index.sweep([URL, OTHER])
        index.close()


@functools.cache
def _sound_cache() -> tuple[bytes, dict[int, bytes]]:
    with tempfile.TemporaryDirectory() as directory:
        cache = open_cache(Path(directory))
        put(cache, 1, 2, length=5000)
        cache.close()
        files = {number: block_file(Path(directory), number).read_bytes() for number in (1, 2)}
        return _content(Path(directory, "v1/blocks/cache.db")), files


def _check_index(damage: Damage, directory: Path) -> None:
    """Blocks are right, or the cache cannot be opened."""
    content, files = _sound_cache()
    prepare_directory(directory)
    apply_damage(damage, content, directory / "v1/blocks/cache.db")
    for number, data in files.items():
        path = block_file(directory, number)
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
    try:
        cache = open_cache(directory, max_bytes=None)
    except CacheError as error:
        assert_clear(error)
        return
    for number in (1, 2):
        assert got(cache, number, 5000) in (None, bytes_of(key_of(number), 5000))
    _put(cache, 3)
    cache.has_any(key_of(1).partition("-")[0])
    cache.close()


def _put(cache: BlockCache, number: int) -> None:
    """Put a block, which is then in the cache or is not."""
    key = key_of(number)
    done: list[bool] = []
    cache.put(key, "s3://b/k", memoryview(bytes_of(key, 5000)), done.append)
    cache.close()
    assert len(done) == 1


def _check_block(value: tuple[int, list[Edit]], directory: Path) -> None:
    """A damaged block is not served, and is removed."""
    length, edits = value
    cache, path = open_cache(directory), block_file(directory, 1)
    put(cache, 1, length=length)
    cache.close()
    path.write_bytes(edited(path.read_bytes(), edits))
    cache = open_cache(directory)
    found = got(cache, 1, length)
    assert found in (None, bytes_of(key_of(1), length))
    assert (found is None) != path.exists()
    cache.close()


_BLOCKS = st.tuples(st.integers(0, 9000), st.lists(EDITS, max_size=4))

TARGETS = (
    Target("journal", damage(JOURNAL, st.booleans()), _check_journal, 40),
    Target("facts", damage(FACTS, st.booleans()), _check_facts, 40),
    Target("cache index", damage(INDEX, st.just(value=False)), _check_index, 20),
    Target("cached blocks", _BLOCKS, _check_block, 20),
)
