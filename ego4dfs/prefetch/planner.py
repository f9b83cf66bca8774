"""The planner: makes a plan from manifests, object facts and the files on disk."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from ego4dfs.catalog import Listing
from ego4dfs.copies import Journal, Layout, State
from ego4dfs.copies.checksum import compare_file
from ego4dfs.copies.etag_trust import BucketEtags, RecordedBucketEtags
from ego4dfs.copies.inventory import Inventory
from ego4dfs.copies.name_collisions import disk_names, with_disk_names
from ego4dfs.copies.rule import COMPARED_BYTES
from ego4dfs.datasets import METADATA
from ego4dfs.errors import AccessDenied, ObjectMissing, StoreError
from ego4dfs.manifest import Entry
from ego4dfs.prefetch.head_requests import Revalidator
from ego4dfs.prefetch.outage import Outage
from ego4dfs.prefetch.plan import TO_FETCH, DatasetPlan, Item, Plan
from ego4dfs.prefetch.shard import Shard
from ego4dfs.runtime.daemon_threads import map_parallel
from ego4dfs.session import Session
from ego4dfs.store import ObjectFacts
from ego4dfs.store.etag import Comparison

CHECK_VALID_S = 12 * 3600.0
"""How long a copy counts as the latest after a check: each object is checked twice a day."""

_THREADS = 4


@dataclass(slots=True)
class Planner:
    """Makes plans.

    `skip_checks` sends no HEAD requests; `bypass` accepts an existing file of the right size.
    `compare_bytes` reads files that no record decides about, up to COMPARED_BYTES of them.
    `skip_unreadable` plans to fetch all files of a directory that cannot be read.
    `on_facts` is called with the objects checked so far, and all; `outage` says how long to wait
    for a store that does not answer. With `shard` the plan has that part of the files, by number
    of files if not all sizes are asked for. `samples` leaves sizes unknown of files that are not
    on disk, in datasets of which a sample of files is small.
    """

    session: Session
    layout: Layout
    journal: Journal
    skip_checks: bool = False
    bypass: bool = False
    compare_bytes: bool = False
    skip_unreadable: bool = False
    on_facts: Callable[[int, int], None] = field(default=lambda _done, _total: None)
    renamed: dict[str, str] = field(default_factory=dict)
    """After `plan`: the names of files whose own names equal those of other files on this disk."""
    outage: Outage = field(default_factory=Outage)
    shard: Shard | None = None
    samples: bool = False
    _partial: dict[str, int] = field(init=False, default_factory=dict)  # bytes on disk, by path

    def plan(self, listings: Iterable[Listing], *, metadata_url: str = "") -> Plan:
        """Return the plan of these datasets, and of ego4d.json if its URL is given.

        Raises CredentialsRejected when the key is refused, and StoreUnavailable when nothing
        answers any more, or a shard needs a size that is not known; a refusal of one object is its
        own state.
        """
        self._partial = self.journal.partial_bytes()
        known = RecordedBucketEtags if self.journal.writable else BucketEtags
        evidence = known(self.journal, self.session.store.source)
        datasets = [self._metadata(metadata_url, evidence)] if metadata_url else []
        for listing in listings:
            names = disk_names(
                self.layout,
                listing.dataset,
                listing.manifest.entries,
                writable=self.journal.writable,
            )
            self.renamed |= {
                self.layout.relative(listing.dataset, name): new for name, new in names.items()
            }
            entries = list(with_disk_names(listing.entries, names))  # unpacked once
            items = self._items(listing.dataset, entries, evidence)
            datasets.append(DatasetPlan(listing.dataset, len(listing.manifest.entries), items))
        share = None
        if self.shard is not None:
            by_size = not (self.skip_checks or self.bypass)
            datasets, share = self.shard.of(datasets, by_size=by_size)
        if self.compare_bytes:
            datasets = self._compared(datasets, evidence)
        to_get = [item for d in datasets for item in d.items if item.state in TO_FETCH]
        return Plan(
            datasets,
            partial_bytes=sum(min(self._partial.get(i.path, 0), i.size) for i in to_get),
            unsized=sum(item.is_unsized for item in to_get),
            share=share,
            is_sampled=self.samples and not self.skip_checks,
        )

    def _metadata(self, url: str, evidence: BucketEtags) -> DatasetPlan:
        """Plan ego4d.json; as it changes within a version, it is checked in each run."""
        nothing: frozenset[str] = frozenset()
        entry = Entry(0, METADATA, "", url, nothing, None, nothing, "")
        items = [replace(i, is_ours=True) for i in self._items("", [entry], evidence, kept_s=0.0)]
        return DatasetPlan("", 1, items)

    def _items(
        self,
        dataset: str,
        entries: Sequence[Entry],
        evidence: BucketEtags,
        *,
        kept_s: float = CHECK_VALID_S,
    ) -> list[Item]:
        self.session.facts.recall(entry.url for entry in entries)
        peeked = self.session.facts.peek_many(entry.url for entry in entries)
        inventory = Inventory.scan(
            self.layout,
            self.journal,
            dataset,
            entries,
            peeked,
            evidence,
            skip_unreadable=self.skip_unreadable,
        )
        now_s = time.time()
        known: dict[str, ObjectFacts | StoreError] = {}
        old: dict[str, ObjectFacts] = {}
        for entry in entries:
            facts = peeked.get(entry.url) or self._recorded(entry, inventory)
            if facts is not None:
                known[entry.url] = facts
                record = inventory.record(entry)
                is_old = record is not None and not (
                    now_s - kept_s <= record.checked_s <= now_s  # a clock may have been wrong
                )
                if (
                    is_old
                    or inventory.needs_revalidation(entry, facts)
                    or not (kept_s and entry.url in peeked)
                ):
                    old[entry.url] = facts
        if not self.skip_checks:
            revalidator = Revalidator(self.session.facts, self.on_facts, self.outage)
            unknown = [e for e in entries if e.url not in known]
            known |= self._fetched(revalidator, inventory, unknown)
            if old and not self.bypass:
                known |= self._revalidated(
                    revalidator, inventory, entries, old, raise_if_rejected=not kept_s
                )
        return [self._item(entry, inventory, known.get(entry.url)) for entry in entries]

    def _fetched(
        self, revalidator: Revalidator, inventory: Inventory, unknown: Sequence[Entry]
    ) -> dict[str, ObjectFacts | StoreError]:
        """Fetch the facts that the plan needs; a file that is on disk is compared with them."""
        present = inventory.files
        urls = [e.url for e in unknown if not (self.bypass and e.name in present)]
        if not self.samples:
            return revalidator.fetch_facts(urls)
        absent = (e for e in unknown if e.name not in present)
        return revalidator.fetch_sample(
            urls, [e.url for e in absent if inventory.path(e.name) not in self._partial]
        )

    def _recorded(self, entry: Entry, inventory: Inventory) -> ObjectFacts | None:
        """Return the facts of the copy's own record, for an index that was cleared."""
        record = inventory.record(entry)
        if record is None or record.source != self.session.store.source:
            return None
        self.session.facts.record(entry.url, record.facts)
        return record.facts

    def _revalidated(
        self,
        revalidator: Revalidator,
        inventory: Inventory,
        entries: Sequence[Entry],
        old: dict[str, ObjectFacts],
        *,
        raise_if_rejected: bool,
    ) -> dict[str, ObjectFacts]:
        """Check copies whose last check is too old to be sure that they are the latest."""
        fresh = revalidator.revalidate(old, raise_if_rejected=raise_if_rejected)
        records = ((e, inventory.record(e)) for e in entries if e.url in fresh)
        self.journal.confirm(
            inventory.path(entry.name)
            for entry, record in records
            if record is not None and record.facts.etag == fresh[entry.url].etag
        )
        return fresh

    def _item(
        self, entry: Entry, inventory: Inventory, known: ObjectFacts | StoreError | None
    ) -> Item:
        item = (inventory.prefix, entry.name, inventory.dataset, entry.uid, entry.url)
        if isinstance(known, (AccessDenied, ObjectMissing)):
            state = State.MISSING if isinstance(known, ObjectMissing) else State.REFUSED
            return Item(*item, None, state, str(known))
        facts = known if isinstance(known, ObjectFacts) else None
        source, bypass = self.session.store.source, self.bypass
        found = inventory.judge(entry, facts, source=source, presence_suffices=bypass)
        is_ours = inventory.is_ours(entry, found)
        return Item(*item, facts, found.state, is_ours=is_ours, size_suffices=found.size_suffices)

    def _compared(
        self, datasets: Sequence[DatasetPlan], evidence: BucketEtags
    ) -> list[DatasetPlan]:
        """Compare the files that no record decides about with their ETags, up to COMPARED_BYTES."""
        cheap = list(_cheap(item for dataset in datasets for item in dataset.items))
        if not cheap:
            return list(datasets)
        compared = map_parallel(self._compare, cheap, threads=_THREADS, name="compare")
        for item, found_one in zip(cheap, compared, strict=True):
            if found_one is not None:
                evidence.note(item.url, found_one)
        judged = (self._judged(evidence, *one) for one in zip(cheap, compared, strict=True))
        found = {item.path: item for item in judged}
        return [
            replace(dataset, items=[found.get(item.path, item) for item in dataset.items])
            for dataset in datasets
        ]

    def _compare(self, item: Item) -> Comparison | None:
        facts = item.facts
        try:
            return compare_file(self._file(item), facts.size, facts.etag) if facts else None
        except OSError:
            return None  # the fetch reports the error

    def _judged(self, evidence: BucketEtags, item: Item, found: Comparison | None) -> Item:
        facts = item.facts
        if facts is None or found is None:
            return item
        proof = evidence.proof(item.url, facts.size, facts.etag, found)
        if proof.counts_as_wrong(size_suffices=item.size_suffices):
            return replace(item, state=State.FETCH)
        return replace(item, state=State.ADOPT, checksum=proof.value)

    def _file(self, item: Item) -> Path:
        """Return the path of a file; ego4d.json may be in the root only."""
        path = self.layout.root / item.path
        top = self.layout.root / METADATA
        return top if not item.dataset and not path.exists() else path


def _cheap(items: Iterable[Item]) -> Iterator[Item]:
    left = COMPARED_BYTES
    for item in items:
        if item.state is State.CHECK and item.facts is not None and item.size <= left:
            left -= item.size
            yield item
