"""IndexExporter: what a cache knows of a selection is written to an index file."""

from __future__ import annotations

import sqlite3
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path

from ego4dfs.catalog import CachedManifest, metadata_url
from ego4dfs.errors import AccessDenied, Ego4DError, ObjectMissing, OutputError, StoreError
from ego4dfs.files import write_atomic
from ego4dfs.index_file.schema import (
    ABOUT,
    APPLICATION_ID,
    FACTS,
    FORMAT,
    MANIFESTS,
    MEDIA,
    Row,
    Table,
    checksum_of,
)
from ego4dfs.prefetch import Outage, Revalidator
from ego4dfs.session import Session
from ego4dfs.sqlite import connect, transaction
from ego4dfs.store import ObjectFacts
from ego4dfs.store.etag import Proof
from ego4dfs.text import masked

LICENCE = (
    "It falls under the licence of Ego4D, as the data does: give it only to people who signed it."
)

_CHUNK_BYTES = 1 << 20


@dataclass(slots=True)
class ExportReport:
    """What was written: the rows of each table, the bytes of the file, and what is missing."""

    rows: Counter[str] = field(default_factory=Counter)
    """The number of rows by table: `manifests`, `facts` and `media`."""
    objects: int = 0
    """The number of objects that are selected."""
    missing: Counter[str] = field(default_factory=Counter)
    """The number of objects without facts, by the reason."""
    size: int = 0


class IndexExporter:
    """Collects the manifests and facts of some datasets, and writes them. Make one for each run."""

    def __init__(self, session: Session, outage: Outage) -> None:
        """Export what `session` has selected; `outage` says how long to wait for the store."""
        self._session = session
        self._outage = outage
        self._manifests: list[Row] = []
        self._facts: dict[str, ObjectFacts] = {}
        self._media: list[Row] = []
        self.report = ExportReport()
        """What was done so far."""

    def collect(
        self,
        datasets: Iterable[str],
        *,
        metadata: bool,
        known_only: bool,
        on_facts: Callable[[int, int], None] = lambda _done, _total: None,
    ) -> None:
        """Collect the manifests of these datasets, and the facts of the selected files.

        With `metadata` those of ego4d.json too. Unknown facts are fetched by HEAD requests, unless
        `known_only`; media facts never are. Raises the errors of `Catalog.listing`,
        CredentialsRejected, and StoreUnavailable if the store does not answer; what was fetched is
        in the cache then.
        """
        catalog = self._session.catalog
        urls = dict.fromkeys([metadata_url(catalog.version)] if metadata else [])
        for name in datasets:
            listing = catalog.listing(name)
            urls |= dict.fromkeys(entry.url for entry in listing.entries)
            cached = catalog.cached_manifest(name)
            if cached is None or cached.content != listing.content:
                cached = CachedManifest(listing.content, "", listing.mtime_ns)
            etag = cached.etag if cached.proof is Proof.RIGHT else ""
            self._manifests.append((catalog.version, name, etag, cached.mtime_ns, cached.content))
        self.report.objects = len(urls)
        self._facts = self._session.facts.peek_many(urls)
        unknown = [url for url in urls if url not in self._facts]
        if unknown and known_only:
            self.report.missing["unknown"] = len(unknown)
        elif unknown:
            self._fetch(unknown, on_facts)
        self._media = list(filter(self._is_current, self._session.facts.media.rows(self._facts)))

    def write(self, file: Path, program: str) -> None:
        """Write the file atomically, with the mode of the umask. Raises OutputError.

        `program` is the name and version of what has made it.
        """
        facts = ((url, f.size, f.etag, f.version_id, f.mtime_ns) for url, f in self._facts.items())
        about = {
            "source": masked(self._session.store.source),
            "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "program": program,
            "licence": LICENCE,
        }
        tables = {
            ABOUT: about.items(),
            MANIFESTS: self._manifests,
            FACTS: facts,
            MEDIA: self._media,
        }
        try:
            with tempfile.TemporaryDirectory(prefix="ego4dfs-") as directory:
                database = Path(directory, "index.sqlite")
                self._fill(database, tables)
                self.report.size = database.stat().st_size
                write_atomic(file, _chunks(database), is_shared=True)
        except (OSError, sqlite3.Error) as error:
            reason = (isinstance(error, OSError) and error.strerror) or str(error)
            raise OutputError(f"{file} cannot be written: {reason.lower()}") from error

    def _is_current(self, media: Row) -> bool:
        url, size, etag = media[:3]
        facts = self._facts[url]
        return (facts.size, facts.etag) == (size, etag)

    def _fetch(self, urls: list[str], on_facts: Callable[[int, int], None]) -> None:
        revalidator = Revalidator(self._session.facts, on_facts, self._outage)
        for url, answer in revalidator.fetch_facts(urls).items():
            if isinstance(answer, StoreError):
                self.report.missing[_reason(answer)] += 1
            elif answer.is_lasting:
                self._facts[url] = answer
            else:
                self.report.missing["without an ETag"] += 1

    def _fill(self, path: Path, tables: Mapping[Table, Iterable[Row]]) -> None:
        with closing(connect(path, lock_wait_s=0)) as database:
            for pragma in (
                f"application_id = {APPLICATION_ID}",
                f"user_version = {FORMAT}",
                "journal_mode = OFF",  # the file gets its name when it is complete
                "synchronous = OFF",
            ):
                database.execute(f"PRAGMA {pragma}")
            with transaction(database):
                for table, rows in tables.items():
                    database.execute(table.sql)
                    self._insert(database, table, rows)

    def _insert(self, database: sqlite3.Connection, table: Table, rows: Iterable[Row]) -> None:
        marks = ", ".join("?" * (len(table.columns) + 1))
        statement = f"INSERT INTO {table.name} VALUES ({marks})"  # noqa: S608 - our own names
        for row in sorted(rows):
            complete = (*row, checksum_of(row))
            if problem := table.problem(complete):
                self.report.missing[f"{table.name}: {problem}"] += 1
                continue
            database.execute(statement, complete)
            self.report.rows[table.name] += 1


def _reason(error: Ego4DError) -> str:
    if isinstance(error, ObjectMissing):
        return "missing"
    return "refused" if isinstance(error, AccessDenied) else "without an answer"


def _chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            yield chunk
