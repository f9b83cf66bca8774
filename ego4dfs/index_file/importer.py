"""IndexImporter: rows of an index file are checked, and added to a cache that lacks them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice

from ego4dfs import datasets
from ego4dfs.catalog import CachedManifest, ManifestCache, metadata_url
from ego4dfs.errors import ConfigError, ManifestError, StoreError
from ego4dfs.facts import FactsIndex
from ego4dfs.facts.media_table import facts_in
from ego4dfs.index_file.reader import BadRow, IndexReader
from ego4dfs.index_file.schema import FACTS, MANIFESTS, MEDIA, Row, Table
from ego4dfs.manifest import parse
from ego4dfs.store import ObjectFacts, split_s3_url
from ego4dfs.store.etag import Proof
from ego4dfs.store.response_checks import is_etag
from ego4dfs.text import masked

SHOWN = 20
"""How many refused rows a report names; the others are counted."""

MAX_MANIFESTS = 1000
"""How many manifests are imported: Ego4D has some dozens in each version."""

MAX_GROUPS = 50_000_000
"""How many groups of pictures are imported: full_scale has 4 million."""

_UNLISTED = "no manifest of the file lists it"
_BATCH = 10_000
_MEDIA_BATCH = 50  # a row may have 4 MiB


@dataclass(slots=True)
class Counts:
    """The rows of one table: added to the cache; kept as the cache has or leaves them; refused."""

    added: int = 0
    kept: int = 0
    refused: int = 0


@dataclass(slots=True)
class ImportReport:
    """The counts by table, and the first SHOWN of the refused rows."""

    counts: dict[str, Counts] = field(default_factory=dict)
    refused: list[BadRow] = field(default_factory=list)

    def of(self, table: Table) -> Counts:
        """Return the counts of a table."""
        return self.counts.setdefault(table.name, Counts())

    def refuse(self, row: BadRow) -> None:
        """Count a refused row."""
        self.counts.setdefault(row.table, Counts()).refused += 1
        if len(self.refused) < SHOWN:
            self.refused.append(row)


class IndexImporter:
    """Imports one index file into the cache of one source. Make one for each file.

    Only what the cache does not know is added. An imported size counts as unconfirmed, so the
    first open of an object confirms it by a GET with If-Match.
    """

    def __init__(self, reader: IndexReader, manifests: ManifestCache, facts: FactsIndex) -> None:
        """Import from `reader` into `manifests` and `facts`."""
        self._reader = reader
        self._manifests = manifests
        self._facts = facts
        self._listed: set[str] = set()
        self._groups = 0
        self.report = ImportReport()
        """What was done so far."""

    def run(self, source: str) -> None:
        """Import all rows; `source` is the name of the store that the cache belongs to.

        Raises ConfigError for a file from another store or with another schema, and CacheError.
        """
        exported = self._reader.about.get("source")
        if exported != masked(source):
            raise ConfigError(
                f"the index file was exported from {exported or 'no store'}, and this is {source}",
                hint="name the same store with --endpoint-url or --source",
            )
        for row in self._sound(MANIFESTS):
            self._add_manifest(row)
        facts = self._sound(FACTS)
        while batch := list(islice(facts, _BATCH)):
            self._add_facts(batch)
        media = self._sound(MEDIA)
        while batch := list(islice(media, _MEDIA_BATCH)):
            self._add_media(batch)

    def _sound(self, table: Table) -> Iterator[Row]:
        """Yield the rows that can be read; refuse the others."""
        self.report.of(table)
        for row in self._reader.rows(table):
            if isinstance(row, BadRow):
                self.report.refuse(row)
            else:
                yield row

    def _add_manifest(self, row: Row) -> None:
        version, dataset, etag, mtime_ns, content = row
        manifest = CachedManifest(content, etag, mtime_ns)
        counts = self.report.of(MANIFESTS)
        try:
            _check_manifest(version, dataset, manifest, counts.added + counts.kept)
            parsed = parse(content, f"{version}/{dataset}")
            is_added = self._manifests.add(version, dataset, manifest)
        except (ConfigError, ManifestError, OSError) as error:
            reason = (isinstance(error, OSError) and error.strerror) or str(error)
            self.report.refuse(BadRow(MANIFESTS.name, f"{version} {dataset}", reason))
            return
        counts.added += is_added
        counts.kept += not is_added
        self._listed.add(metadata_url(version))
        self._listed.update(entry.url for entry in parsed.entries)

    def _add_facts(self, rows: Iterable[Row]) -> None:
        found = {}
        for url, size, etag, version_id, mtime_ns in rows:
            if problem := self._problem(url, etag, version_id):
                self.report.refuse(BadRow(FACTS.name, url, problem))
            else:
                found[url] = ObjectFacts(size, etag, version_id, mtime_ns)
        added = self._facts.add_unknown(found)
        counts = self.report.of(FACTS)
        counts.added += len(added)
        counts.kept += len(found) - len(added)

    def _add_media(self, rows: Sequence[Row]) -> None:
        """Add media facts of the versions that the cache knows; of others they count as kept."""
        found, counts = [], self.report.of(MEDIA)
        known = self._facts.peek_many(row[0] for row in rows)
        for row in rows:
            url, size, etag = row[:3]
            facts = known.get(url)
            if problem := self._media_problem(row):
                self.report.refuse(BadRow(MEDIA.name, url, problem))
            elif facts is not None and (facts.size, facts.etag) == (size, etag):
                found.append(row)
            else:
                counts.kept += 1
        added = self._facts.media.insert(found)
        counts.added += len(added)
        counts.kept += len(found) - len(added)

    def _media_problem(self, row: Row) -> str:
        """Return why a row of media facts cannot be used, or ''."""
        if row[0] not in self._listed:
            return _UNLISTED
        if self._groups > MAX_GROUPS:
            return f"there are more than {MAX_GROUPS} groups of pictures"
        facts = facts_in(row)
        if facts is None:
            return "its key frames are not those of a video of this size"
        self._groups += len(facts.times)
        return ""

    def _problem(self, url: str, etag: str, version_id: str) -> str:
        """Return why the facts of an object cannot be used, or ''."""
        if url not in self._listed:
            return _UNLISTED
        try:
            split_s3_url(url)
        except StoreError as error:
            return str(error)
        if not is_etag(etag):
            return "etag is not one that a store sends"
        return "" if version_id.isprintable() else "version_id has unprintable characters"


def _check_manifest(version: str, dataset: str, manifest: CachedManifest, earlier: int) -> None:
    """Raise ConfigError for a name that leads out of the cache, and ManifestError otherwise.

    An ETag that the bytes do not prove would be confirmed for ever by the store's answer that it is
    unchanged; exports have an empty one in its place. There may be MAX_MANIFESTS.
    """
    if earlier >= MAX_MANIFESTS:
        raise ManifestError(f"there are more than {MAX_MANIFESTS}")
    if datasets.check_version(version) != version or datasets.normalise(dataset) != dataset:
        raise ManifestError(f"{version}/{dataset} is not the name of a dataset")
    if manifest.etag and manifest.proof is not Proof.RIGHT:
        raise ManifestError("its bytes do not agree with its ETag")
