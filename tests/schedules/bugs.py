"""Seeded bugs: changes to the product that break a promise; a scenario must find each of them."""

from __future__ import annotations

from typing import NamedTuple

from schedules.instrument import Change


class Bug(NamedTuple):
    """A change to the product, and the scenario that must fail with it."""

    name: str
    scenario: str
    change: Change


BUGS = (
    Bug(
        "a block and its parts are fetched at the same time",
        "downloads.parts_and_blocks",
        Change(
            "ego4dfs.reader.downloads",
            "yield extent, (extent.key, *overlapping_keys(ref, extent))",
            "yield extent, (extent.key,)",
        ),
    ),
    Bug(
        "a claim is not atomic",
        "downloads.same_block",
        Change(
            "ego4dfs.reader.flights",
            "        with self._lock:\n            for extent, keys in extents:",
            "        if True:\n            for extent, keys in extents:",
        ),
    ),
    Bug(
        "a reader checks for an error, and then waits, without the lock",
        "downloads.failing_store",
        Change(
            "ego4dfs.reader.flight",
            "        with self._changed:\n            self._error = detach(error)\n",
            "        self._error = error\n        with self._changed:\n            return\n",
        ),
    ),
    Bug(
        "two requests for the same bytes both pass them on",
        "downloads.late_requests",
        Change(
            "ego4dfs.reader.hedging",
            "        if self._winner != number:\n            raise Overtaken\n",
            "",
        ),
    ),
    Bug(
        "a request that fails does not wait for the second one",
        "downloads.late_requests",
        Change(
            "ego4dfs.reader.hedging",
            "may_have_bytes = is_transient and self._second_runs and not self._winner",
            "may_have_bytes = False",
        ),
    ),
    Bug(
        "a request waits for a second one that has no thread",
        "downloads.late_without_threads",
        Change(
            "ego4dfs.reader.hedging",
            "may_have_bytes = is_transient and self._second_runs and not self._winner",
            "may_have_bytes = is_transient and self._is_asked and not self._winner",
        ),
    ),
    Bug(
        "what a second request has not brought is not fetched",
        "downloads.late_requests",
        Change("ego4dfs.reader.fetch_pool", "            get(rest)", "            pass"),
    ),
    Bug(
        "a failed request keeps its memory",
        "downloads.failing_store",
        Change("ego4dfs.reader.fetch_pool", "self._budget.release(len(flight))", "pass"),
    ),
    Bug(
        "a block leaves the flights before the cache has it",
        "downloads.same_block",
        Change(
            "ego4dfs.reader.downloads",
            "        done = partial(self._stored, ref, flight)\n",
            "        done = lambda _: None\n        self._stored(ref, flight, True)\n",
        ),
    ),
    Bug(
        "what was stored since the look into the cache is fetched again",
        "downloads.two_processes",
        Change(
            "ego4dfs.reader.fetch_locks",
            "present_extents(ref, start, stop, self._cache.contains)",
            "present_extents(ref, start, stop, lambda _: False)",
        ),
    ),
    Bug(
        "a range is unlocked before its block is on disk",
        "downloads.two_processes",
        Change(
            "ego4dfs.reader.downloads",
            "        self._cache.put(flight.extent.key",
            "        self._locks.release(flight.extent)\n        self._cache.put(flight.extent.key",
        ),
    ),
    Bug(
        "a request that failed stays locked",
        "downloads.failing_process",
        Change("ego4dfs.reader.fetch_pool", "self._locks.release(flight.extent)", "pass"),
    ),
    Bug(
        "reads of one window are not serialized",
        "window.in_an_open_window",
        Change(
            "ego4dfs.reader.window",
            "        with self._lock:\n            max_forward",
            "        if True:\n            max_forward",
        ),
    ),
    Bug(
        "a rewind is not serialized with reads",
        "window.with_a_rewind",
        Change(
            "ego4dfs.reader.window",
            "        with self._lock:\n            self._ahead",
            "        if True:\n            self._ahead",
        ),
    ),
    Bug(
        "a block is not looked for in the index again after its file was written",
        "block_cache.two_processes",
        Change(
            "ego4dfs.cache.writer", "stored = self._index.reserved(written)", "stored = written"
        ),
    ),
    Bug(
        "a put that comes with the close is lost",
        "block_cache.close_meanwhile",
        Change(
            "ego4dfs.cache.writer",
            "            self._closed = True\n            thread = self._thread\n",
            "            thread = self._thread\n",
        ),
    ),
    Bug(
        "a row from disk replaces what was recorded meanwhile",
        "facts_index.newer_than_the_disk",
        Change("ego4dfs.facts.index", "found.items() if url not in changed}", "found.items()}"),
    ),
    Bug(
        "facts that were removed are read again from a row that is about to be deleted",
        "facts_index.removed",
        Change("ego4dfs.facts.index", " if not self._queue.is_changed(url)]", "]"),
    ),
    Bug(
        "the answer to a HEAD request replaces that of a later GET",
        "facts_index.newer_than_a_head",
        Change("ego4dfs.facts.index", "if url in changed:", "if False:"),
    ),
    Bug(
        "a change that comes during a write is taken for written",
        "facts_index.changed",
        Change("ego4dfs.facts.write_queue", " and changes[url] is change:", ":"),
    ),
    Bug(
        "two threads send a HEAD request for one object",
        "facts_index.one_head",
        Change(
            "ego4dfs.facts.index",
            "            with self._lock:\n                result = self._in_flight.get(url)",
            "            if True:\n                result = self._in_flight.get(url)",
        ),
    ),
    Bug(
        "the end of a sweep is not announced",
        "facts_index.sweeps",
        Change(
            "ego4dfs.facts.batch_head",
            "                self._finishing -= 1\n                self._lock.notify_all()",
            "                self._finishing -= 1",
        ),
    ),
)
