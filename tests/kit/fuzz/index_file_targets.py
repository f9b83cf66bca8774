"""Target: index files of `ego4dfs index`, damaged, or with other values and right checksums."""

from __future__ import annotations

import functools
import hashlib
import sqlite3
import tempfile
from contextlib import closing, suppress
from pathlib import Path

from hypothesis import strategies as st

from ego4dfs.cache import prepare_directory, source_directory
from ego4dfs.catalog import ManifestCache, metadata_url
from ego4dfs.errors import ConfigError
from ego4dfs.facts import FactsIndex, MediaFacts
from ego4dfs.facts.media_table import facts_in
from ego4dfs.index_file import IndexImporter, IndexReader
from ego4dfs.index_file.schema import ABOUT, FACTS, MANIFESTS, MEDIA
from ego4dfs.store import MAX_OBJECT_BYTES, ObjectFacts
from ego4dfs.store.etag import Proof
from ego4dfs.store.response_checks import pin_of
from kit.fakes import CountingStore
from kit.fuzz.sqlite_targets import Damage, apply_damage, damage
from kit.fuzz.target import Target, assert_clear
from kit.index_files import reseal, write_index

_ALL = (ABOUT, MANIFESTS, FACTS, MEDIA)
_TABLES = {table.name: " ".join(column.name for column in table.columns) for table in _ALL}
_MANIFEST = b"video_uid,type,s3_path\na,video,s3://b/a\nb,video,s3://b/bb\n"
_ETAG = hashlib.md5(_MANIFEST, usedforsecurity=False).hexdigest()
_TIME_NS = 7 * 10**9
_SOUND = {
    "s3://b/a": ObjectFacts(10, "e" * 32, "v1", _TIME_NS),
    "s3://b/bb": ObjectFacts(99, 'W/"x"', "", _TIME_NS),
    metadata_url("v2"): ObjectFacts(2, f"{'f' * 32}-3", "v2", _TIME_NS),
}
_GROUPS = MediaFacts(range(80, 99), 30, 300, (0, 120), (0, 30), (35, 80))


@functools.cache
def _sound() -> bytes:
    with tempfile.TemporaryDirectory() as directory:
        facts = [(u, f.size, f.etag, f.version_id, f.mtime_ns) for u, f in _SOUND.items()]
        manifests = [
            ("v2", "clips", _ETAG, _TIME_NS, _MANIFEST),
            ("v2", "imu", "", 0, _MANIFEST * 99),
        ]
        media = ("s3://b/bb", 99, 'W/"x"', 80, 99, 30, 300, _GROUPS.packed())
        rows = {MANIFESTS: manifests, FACTS: facts, MEDIA: [media]}
        return write_index(Path(directory, "x"), CountingStore().source, rows).read_bytes()


def _check(value: tuple[Damage, bool], directory: Path) -> None:
    """Sound rows are imported, others are refused; nothing else is written."""
    harm, is_resealed = value
    file = directory / "given" / "x.sqlite"
    apply_damage(harm, _sound(), file)
    for table in _ALL if is_resealed else ():
        with suppress(sqlite3.Error):
            reseal(file, table)
    before = file.read_bytes()
    store = CountingStore()
    root = source_directory(prepare_directory(directory / "cache"), store.source)
    manifests = ManifestCache(root, store)
    with closing(FactsIndex(root, store)) as facts:
        _import(file, manifests, facts)
        known = facts.peek_many(_SOUND)
        for row in facts.media.rows(_SOUND):
            assert (row[1], row[2]) == (known[row[0]].size, known[row[0]].etag)
            assert facts_in(row) is not None
        assert is_resealed or facts.totals()[0] == len(known)
    for url, found in known.items():
        assert is_resealed or found == _SOUND[url]
        assert 0 <= found.size <= MAX_OBJECT_BYTES
        assert pin_of(found.etag) or found.etag.startswith("W/")
        assert not found.has_confirmed_size
    for dataset in ("clips", "imu"):
        manifest = manifests.cached("v2", dataset)
        if manifest is not None:
            assert is_resealed or manifest.content in (_MANIFEST, _MANIFEST * 99)
            assert not manifest.etag or manifest.proof is Proof.RIGHT
    assert file.read_bytes() == before
    assert [path.name for path in file.parent.iterdir()] == [file.name]
    assert {path.name for path in directory.iterdir()} == {"given", "cache"}


def _import(file: Path, manifests: ManifestCache, facts: FactsIndex) -> None:
    try:
        with closing(IndexReader(file)) as reader:
            importer = IndexImporter(reader, manifests, facts)
            importer.run("memory")
    except ConfigError as error:
        assert_clear(error)
        return
    assert all(row.reason for row in importer.report.refused)


TARGETS = (
    Target(
        "index file",
        st.tuples(damage(_TABLES, st.sampled_from([False] * 9 + [True])), st.booleans()),
        _check,
        60,
    ),
)
