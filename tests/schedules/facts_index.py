"""Scenarios of FactsIndex: one HEAD per object, newer and older answers, a locked table, sweeps."""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ego4dfs.errors import AccessDenied, ObjectChanged, StoreUnavailable
from ego4dfs.store import ObjectFacts, WrongSize
from schedules.fakes import facts, run_threads
from schedules.instrument import Product
from schedules.scheduler import point
from schedules.simulated import Thread, now_s, sleep

URL = "s3://bucket/object"


class Table:
    """A FactsTable in memory; another process holds its lock until `locked_until_s`."""

    def __init__(self, rows: dict[str, ObjectFacts]) -> None:
        self.rows = rows
        self.sizes: dict[str, tuple[int, str]] = {}  # confirmed ones
        self.refusals: dict[str, tuple[bool, str, float]] = {}
        self.locked_until_s = 0.0
        self.is_closed = False

    @property
    def is_locked(self) -> bool:
        return now_s() < self.locked_until_s

    def facts(self, urls: Sequence[str]) -> dict[str, ObjectFacts]:
        point("queries rows")
        if self.is_locked:
            return {}
        found = {url: self.row(url) for url in urls if url in self.rows}
        point("has queried rows")
        return found

    def row(self, url: str) -> ObjectFacts:
        found = self.rows[url]
        return found.confirmed() if self.sizes.get(url) == (found.size, found.etag) else found

    def apply(
        self, changes: Mapping[str, ObjectFacts | None], confirmed: Mapping[str, ObjectFacts]
    ) -> bool:
        point("begins a transaction")
        if self.is_locked:
            return False
        assert not self.is_closed, "a write after the close"
        for url, new in changes.items():
            self.rows.pop(url, None)
            if new is None:
                self.sizes.pop(url, None)
            else:
                self.rows[url] = replace(new, has_confirmed_size=False)
        for url, of in (*changes.items(), *confirmed.items()):
            if of is not None and of.has_confirmed_size:
                self.sizes[url] = (of.size, of.etag)
        point("has committed")
        return True

    def refusal(self, url: str) -> tuple[bool, str, float] | None:
        point("queries refusals")
        return self.refusals.get(url)

    def refused_urls(self, since_s: float, until_s: float) -> set[str]:
        point("queries refusals")
        return {url for url, row in self.refusals.items() if since_s < row[2] <= until_s}

    def record_refusal(self, url: str, message: str, at_s: float, *, is_missing: bool) -> None:
        point("writes a refusal")
        self.refusals[url] = (is_missing, message, at_s)

    def totals(self) -> tuple[int, int]:
        point("counts rows")
        return len(self.rows), sum(row.size for row in self.rows.values())

    def close(self) -> None:
        self.is_closed = True


class World:
    """A FactsIndex over a fake table, and a store whose object has a version."""

    def __init__(self, product: Product, rows: Mapping[str, ObjectFacts] | None = None) -> None:
        self.table = Table(dict(rows or {}))
        product.facts_index.FactsTable = lambda _path: self.table
        self.version = 1
        self.heads: Counter[str] = Counter()
        self.obey: Callable[[str], object] = lambda _url: None
        nowhere = Path(os.devnull)  # so it locks no names between processes
        self.index: Any = product.facts_index.FactsIndex(nowhere, self)
        self.errors: list[Exception] = []

    def head(self, url: str) -> ObjectFacts:
        self.heads[url] += 1
        point("HEAD is sent")
        self.obey(url)
        answer = facts(self.version)
        point("HEAD is answered")
        return answer

    def get(self, url: str = URL) -> ObjectFacts | None:
        try:
            found: ObjectFacts = self.index.get(url)
        except (StoreUnavailable, AccessDenied) as error:
            self.errors.append(error)
            return None
        return found

    def replace(self) -> ObjectFacts:
        """Replace the object in the store; return its new facts."""
        point("the object is replaced")
        self.version += 1
        return facts(self.version)

    def known(self) -> ObjectFacts | None:
        found: ObjectFacts | None = self.index.peek(URL)
        return found

    def settle(self) -> None:
        """Close; nothing is in flight, and the table has what is in memory."""
        self.index.close()
        assert not self.index._in_flight, "a request is left in flight"
        queue = self.index._queue
        assert not {**queue._changes, **queue._confirmed}, "a change was not written"
        memory = dict(self.index._known)
        rows = {url: self.table.row(url) for url in self.table.rows}
        assert rows == memory, f"on disk {rows}, in memory {memory}"
        for url, row in rows.items():
            assert row.has_confirmed_size == memory[url].has_confirmed_size, f"on disk {row}"

    def took(self, at_most_s: float) -> None:
        assert now_s() <= at_most_s, f"took {now_s()} s: a wake-up was lost"


def one_head(product: Product, dice: random.Random) -> None:
    """Threads that need the facts of one object share one HEAD request."""
    world = World(product)
    found: list[object] = []
    run_threads(*3 * [lambda: found.append(world.get())])
    assert found == [facts(1)] * 3
    assert world.heads[URL] == 1, f"{world.heads[URL]} HEAD requests"
    world.took(0)
    world.settle()


def failing_head(product: Product, dice: random.Random) -> None:
    """If a HEAD request fails, each thread has facts or an error, and the next one asks again."""
    world = World(product)
    failing = [StoreUnavailable("a fault")]

    def obey(_url: str) -> None:
        if failing:
            raise failing.pop()

    world.obey = obey
    run_threads(*3 * [world.get])
    assert world.get() == facts(1), "a failure was remembered"
    world.took(0)
    world.settle()


def refused_head(product: Product, dice: random.Random) -> None:
    """A refusal is kept: later threads get it without a request."""
    world = World(product)

    def obey(url: str) -> None:
        raise AccessDenied("refused", url=url)

    world.obey = obey
    run_threads(*3 * [world.get])
    assert len(world.errors) == 3
    sent = world.heads[URL]
    world.get()
    assert world.heads[URL] == sent, "a refusal was not used"
    world.settle()


def newer_than_the_disk(product: Product, dice: random.Random) -> None:
    """A row that is being read from disk does not replace what another thread records."""
    world = World(product, {URL: facts(1)})

    def record() -> None:
        new = world.replace()
        world.index.record(URL, new)
        assert world.known() == new, "recorded facts were replaced by older ones"

    run_threads(world.known, lambda: world.index.peek_many([URL, "s3://bucket/b"]), record)
    assert world.known() == facts(2), "recorded facts were replaced by older ones"
    world.settle()


def removed(product: Product, dice: random.Random) -> None:
    """Facts that a response has shown to be wrong are not read from disk again."""
    world = World(product, {URL: facts(1)})
    run_threads(world.known, lambda: world.index.remove(URL), lambda: world.index.peek_many([URL]))
    assert world.known() is None, "facts that were removed are back"
    world.settle()


def newer_than_a_head(product: Product, dice: random.Random) -> None:
    """The answer to a HEAD request does not replace that of a later GET."""
    world = World(product)
    run_threads(world.get, world.get, lambda: world.index.record(URL, world.replace()))
    assert world.known() == facts(2), "newer facts were replaced by those of a HEAD request"
    world.settle()


def confirmed(product: Product, dice: random.Random) -> None:
    """A confirmation of old facts does not replace newer ones, and is not lost."""
    world = World(product, {URL: facts(1)})
    world.known()

    def correct() -> None:
        new = world.replace()
        world.index.correct(URL, WrongSize(URL, 1, new))

    run_threads(lambda: world.index.confirm(URL, 100, facts(1).etag), correct, world.known)
    assert world.known() == facts(2), "old facts were confirmed after newer ones"
    world.settle()
    other = World(product, {URL: facts(1)})
    other.known()
    run_threads(*2 * [lambda: other.index.confirm(URL, 100, facts(1).etag)])
    assert other.known().has_confirmed_size
    other.settle()


def changed(product: Product, dice: random.Random) -> None:
    """Facts that are removed and recorded by several threads are the same in memory and on disk."""
    world = World(product, {URL: facts(1)})
    run_threads(
        lambda: world.index.correct(URL, ObjectChanged("replaced", url=URL)),
        lambda: world.index.record(URL, facts(2)),
        lambda: world.index.record(URL, facts(3)),
    )
    world.settle()


def locked_table(product: Product, dice: random.Random) -> None:
    """What is recorded while another process has locked the table is written afterwards."""
    world = World(product)

    def lock() -> None:
        point("another process locks the table")
        world.table.locked_until_s = 2.0
        sleep(4.0)

    run_threads(
        lambda: world.index.record("s3://bucket/a", facts(1)),
        lambda: [world.index.record("s3://bucket/b", facts(v)) for v in (1, 2)],
        lock,
    )
    sleep(20.0)
    assert world.table.rows == {"s3://bucket/a": facts(1), "s3://bucket/b": facts(2)}
    world.settle()


def sweeps(product: Product, dice: random.Random) -> None:
    """Sweeps, opens and their answers: one HEAD request for each object, and all are written."""
    world = World(product)
    urls = ["s3://bucket/a", "s3://bucket/b"]

    def sweep(wanted: Iterable[str]) -> None:
        world.index.sweep(wanted)
        assert world.index._sweeps.wait(1.0), "a sweep does not end"

    run_threads(lambda: sweep(urls), lambda: sweep(reversed(urls)), lambda: world.get(urls[0]))
    assert world.heads == Counter(urls), f"HEAD requests: {world.heads}"
    assert set(world.table.rows) == set(urls), "not all facts were written"
    world.took(0)
    world.settle()


def sweeps_and_close(product: Product, dice: random.Random) -> None:
    """A close ends the sweeps, also if no thread can be started or the store fails."""
    world = World(product)
    outage = dice.random() < 0.5

    def obey(_url: str) -> None:
        if outage:
            raise StoreUnavailable("a fault")

    world.obey = obey
    Thread.limits["facts-head"] = dice.randrange(3)
    try:
        run_threads(
            lambda: world.index.sweep(["s3://bucket/a", "s3://bucket/b"]),
            lambda: world.index.sweep(["s3://bucket/c"]),
            lambda: world.index._sweeps.close(1.0),
        )
    finally:
        Thread.limits.clear()
    assert world.index._sweeps.wait(1.0), "a sweep does not end"
    world.took(0)
    world.settle()


SCENARIOS = (
    one_head,
    failing_head,
    refused_head,
    newer_than_the_disk,
    removed,
    newer_than_a_head,
    confirmed,
    changed,
    locked_table,
    sweeps,
    sweeps_and_close,
)
