"""Scenarios of Flights and Downloads: readers of one object, faults, bounds, and the close."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from ego4dfs.errors import StoreUnavailable
from schedules.fakes import Cache, Store, content, run_threads
from schedules.instrument import Product
from schedules.simulated import Thread, now_s, sleep

URL, OTHER_URL = "s3://bucket/object", "s3://bucket/other"
SIZE = 150  # three blocks, the last of 22 bytes


class World:
    """A Reader over a fake store and a fake cache, and what all schedules must end with."""

    def __init__(
        self,
        product: Product,
        size: int = SIZE,
        *,
        beside: World | None = None,
        hedging: Any = None,
    ) -> None:
        """`beside` is another process that uses the same store and cache."""
        self.product = product
        self.store = (
            Store({URL: content(size), OTHER_URL: content(size, 100)})
            if beside is None
            else beside.store
        )
        self.cache = Cache(None if beside is None else beside.cache)
        self.reader: Any = product.reader_reader.Reader(
            self.store, self.cache, product.metrics.Metrics(), hedging=hedging
        )
        self.ref = self.object(URL)
        self.errors: list[Exception] = []
        self.most_bytes = 0

    @property
    def downloads(self) -> Any:
        return self.reader.downloads

    def object(self, url: str) -> Any:
        return self.product.blocks.ObjectRef.of("fake", url, len(self.store.objects[url]), "etag")

    def window(self) -> Any:
        return self.product.reader_window.Window()

    def read(self, start: int, stop: int, window: Any = None, *, url: str = URL) -> bool:
        """Read a range: its bytes must be right, or the error one of the store."""
        buffer = bytearray(stop - start)
        try:
            count = self.reader.read_into(self.object(url), start, memoryview(buffer), window)
        except StoreUnavailable as error:
            self.errors.append(error)
            return False
        expected = self.store.objects[url][start:stop]
        assert count == len(expected), f"{count} bytes of [{start}, {stop})"
        assert buffer[:count] == expected, f"wrong bytes in [{start}, {stop})"
        return True

    def reads(self, start: int, stop: int, window: Any = None, **of: str) -> Callable[[], bool]:
        """Return a thread body that reads a range."""
        return lambda: self.read(start, stop, window, **of)

    def fetched_once(self) -> None:
        times = self.store.times_fetched(URL)
        assert max(times.values()) == 1, f"requested more than once: {sorted(self.store.gets)}"

    def took(self, at_most_s: float) -> None:
        assert now_s() <= at_most_s, f"took {now_s()} s: a wake-up was lost"

    def settle(self, unstored: int = 0) -> None:
        """Close; nothing may be left in flight, in memory or reserved."""
        self.reader.close()
        self.cache.close()
        downloads = self.downloads
        assert downloads.unstored == unstored, f"{downloads.unstored} unstored blocks"
        assert downloads.in_flight == unstored, f"{downloads.in_flight} flights are left"
        left = sum(len(flight) for flight in downloads._flights._flights.values())
        assert downloads.memory_bytes == left, f"{downloads.memory_bytes} bytes are reserved"
        assert self.cache.fetching.is_idle, "a range stays locked"


def same_block(product: Product, dice: random.Random) -> None:
    """Readers of one block share one request, and each of them gets its bytes."""
    world = World(product)
    run_threads(world.reads(0, 64), world.reads(0, 64), world.reads(10, 30))
    assert not world.errors
    world.fetched_once()
    world.took(0)
    world.settle()


def parts_and_blocks(product: Product, dice: random.Random) -> None:
    """Readers of parts, of whole blocks and of what overlaps them fetch no byte twice."""
    world = World(product)
    window = world.window()
    run_threads(
        world.reads(20, 40, window),
        lambda: world.read(0, 30, world.window()) and world.read(30, 150),
        world.reads(60, 110),
    )
    assert not world.errors
    world.fetched_once()
    world.took(0)
    world.settle()


def sequential(product: Product, dice: random.Random) -> None:
    """Two readers with windows read a file of 20 blocks in order, a third confirms its size."""
    world = World(product, 20 * 64)
    shared = world.window()

    def read_on(first: int) -> None:
        for start in range(first, first + 400, 200):
            assert world.read(start, start + 200, shared)

    run_threads(
        lambda: read_on(0), lambda: read_on(400), lambda: world.reader.confirm_size(world.ref)
    )
    world.fetched_once()
    world.took(0)
    world.settle()


def failing_store(product: Product, dice: random.Random) -> None:
    """If a GET fails, each reader gets an error or its bytes, and the next one its bytes."""
    world = World(product)
    failing = [dice.choice((0, 20, 40))]

    def obey(_url: str, start: int, _stop: int) -> None:
        if failing and start >= failing[0]:
            failing.clear()
            raise StoreUnavailable("a fault")

    world.store.obey = obey
    run_threads(world.reads(0, 64), world.reads(30, 90), world.reads(0, 20, world.window()))
    world.took(0)
    sleep(0.001)  # until nothing runs: a reader may still join a request that is failing
    failing.clear()
    assert world.read(0, 150), "a failure was remembered"
    world.took(0.001)
    world.settle()


def refusing_cache(product: Product, dice: random.Random) -> None:
    """Blocks that the cache does not keep stay in memory: they are not fetched again at once."""
    world = World(product)
    world.cache.keeps = lambda _key: False
    run_threads(world.reads(0, 64), world.reads(0, 128), world.reads(64, 150))
    assert not world.errors
    assert world.read(0, 150)
    world.fetched_once()
    world.took(0)
    world.settle(unstored=3)


def few_unstored(product: Product, dice: random.Random) -> None:
    """At most MAX_UNSTORED_BLOCKS stay in memory; the oldest leave, and are fetched again."""
    product.reader_downloads.MAX_UNSTORED_BLOCKS = 1
    try:
        world = World(product)
        world.cache.keeps = lambda _key: dice.random() < 0.3
        run_threads(world.reads(0, 128), world.reads(0, 64), world.reads(64, 150))
        assert not world.errors
        world.took(0)
        world.reader.close()
        world.cache.close()
        assert world.downloads.unstored <= 1
        world.settle(unstored=world.downloads.unstored)
    finally:
        product.reader_downloads.MAX_UNSTORED_BLOCKS = 64


def little_memory(product: Product, dice: random.Random) -> None:
    """With memory for one block, readers wait for each other; the bound holds at each request."""
    product.reader_downloads.MAX_INFLIGHT_BYTES = 64
    try:
        world = World(product)

        def obey(_url: str, _start: int, _stop: int) -> None:
            world.most_bytes = max(world.most_bytes, world.downloads.memory_bytes)

        world.store.obey = obey
        run_threads(
            world.reads(0, 64),
            world.reads(64, 128),
            lambda: world.read(128, 150, world.window()) and world.read(0, 16, world.window()),
        )
        assert not world.errors
        assert world.most_bytes <= 64, f"{world.most_bytes} bytes in memory"
        world.took(0)
        world.settle()
    finally:
        product.reader_downloads.MAX_INFLIGHT_BYTES = 80 * 64


def evictions(product: Product, dice: random.Random) -> None:
    """Readers get right bytes while blocks are evicted under them."""
    world = World(product)

    def evict() -> None:
        for _ in range(4):
            world.cache.evict()

    run_threads(lambda: world.read(0, 100) and world.read(50, 150), world.reads(0, 64), evict)
    assert not world.errors
    world.took(0)
    world.settle()


def speculative(product: Product, dice: random.Random) -> None:
    """Read-ahead of small files keeps its bound, shares requests, and gives its slots back."""
    product.reader_downloads.MAX_SPECULATIVE_BLOCKS = 1
    try:
        world = World(product, 40)

        def ahead() -> None:
            for url in (URL, OTHER_URL):
                world.reader.prefetch_small(world.object(url))
                assert world.downloads.speculative <= 1, "more speculative blocks than allowed"

        run_threads(ahead, ahead, world.reads(0, 40))
        assert not world.errors
        world.fetched_once()
        world.took(0)
        world.settle()
        assert world.downloads.speculative == 0
        assert not world.downloads._speculative._reserved, "a slot stays reserved"
    finally:
        product.reader_downloads.MAX_SPECULATIVE_BLOCKS = 16


def put_elsewhere(product: Product, dice: random.Random) -> None:
    """A block that was fetched elsewhere is kept once, whoever requests it meanwhile."""
    world = World(product)
    block = memoryview(world.store.objects[URL])[:64]
    run_threads(
        lambda: world.reader.put(world.ref, 0, block),
        world.reads(0, 64),
        lambda: world.reader.put(world.ref, 0, block),
    )
    assert not world.errors
    world.took(0)
    world.settle()


def close_meanwhile(product: Product, dice: random.Random) -> None:
    """After a close each reader ends, with its bytes or an error, within the time of a close."""
    world = World(product)
    hangs = dice.random() < 0.5

    def obey(_url: str, start: int, _stop: int) -> None:
        if hangs and start == 0:
            sleep(1000.0)

    world.store.obey = obey
    run_threads(world.reads(0, 64), world.reads(64, 150, world.window()), world.reader.close)
    world.took(2.0)
    if not hangs:
        world.settle()


def silent_store(product: Product, dice: random.Random) -> None:
    """A GET that hangs fails its own readers after ANSWER_S or THROTTLED_S, and no others."""
    world = World(product)

    def obey(url: str, _start: int, _stop: int) -> None:
        if url == URL:
            sleep(30.0)
            raise StoreUnavailable("no answer")

    world.store.obey = obey

    def read_other() -> None:
        assert world.read(0, 150, url=OTHER_URL)
        world.took(0)

    run_threads(world.reads(0, 64), world.reads(30, 60, world.window()), read_other)
    assert len(world.errors) == 2, "a reader got bytes that were never sent"
    world.took(60.0)  # the second may have begun when the first had failed
    world.settle()


def late_requests(product: Product, dice: random.Random) -> None:
    """A second GET for late bytes gives each reader its bytes, whichever of the two fails.

    For one object the second GET breaks off, and the first one, which is later, brings what is
    missing. For the other one the first GET fails, and the second one is waited for.
    """
    hedging = product.reader_hedging.Hedging(product.metrics.Metrics())
    hedging.delay_s, hedging.allows = lambda _: 0.05, lambda _: True
    world = World(product, hedging=hedging)
    broken = set[int]()

    def obey(url: str, start: int, stop: int) -> None:
        number = world.store.gets.count((url, start, stop))
        if number == 1:
            sleep(5.0)
            if url == OTHER_URL:
                raise StoreUnavailable("the first one fails")
        elif url == OTHER_URL:
            sleep(10.0 if number == 2 else 0.0)
        elif number == 0 and stop not in broken:
            broken.add(stop)
            raise StoreUnavailable("the second one breaks off")

    world.store.obey = obey
    run_threads(
        *(world.reads(0, 64), world.reads(10, 30), world.reads(64, 150, world.window())),
        world.reads(0, 64, url=OTHER_URL),
    )
    assert not world.errors
    world.took(10.1)
    assert max(world.store.times_fetched(OTHER_URL).values()) == 2
    world.settle()


def late_without_threads(product: Product, dice: random.Random) -> None:
    """A GET that is late and fails ends, and others follow it, where a second one has no thread."""
    hedging = product.reader_hedging.Hedging(product.metrics.Metrics())
    hedging.delay_s, hedging.allows = lambda _: 0.05, lambda _: True
    world = World(product, hedging=hedging)

    def obey(url: str, start: int, stop: int) -> None:
        if url == URL and world.store.gets.count((url, start, stop)) == 1:
            sleep(1.0)
            raise StoreUnavailable("the first one fails")

    world.store.obey = obey
    Thread.limits["fetch"] = 1
    try:
        run_threads(world.reads(0, 64), world.reads(10, 30), world.reads(0, 150, url=OTHER_URL))
    finally:
        Thread.limits.clear()
    world.took(1.1)
    assert world.read(0, 64)
    world.settle()


def no_threads(product: Product, dice: random.Random) -> None:
    """Where no more threads can be started, requests run in the threads of their readers."""
    world = World(product)
    Thread.limits["fetch"] = dice.randrange(2)
    try:
        run_threads(world.reads(0, 64), world.reads(0, 64), world.reads(64, 150, world.window()))
    finally:
        Thread.limits.clear()
    assert not world.errors
    world.fetched_once()
    world.took(0)
    world.settle()


def two_processes(product: Product, dice: random.Random) -> None:
    """Two processes fetch each byte once, as blocks, as parts, and what overlaps."""
    world = World(product)
    other = World(product, beside=world)
    run_threads(
        world.reads(0, 100),
        lambda: other.read(20, 40, other.window()) and other.read(0, 150),
        other.reads(64, 110, other.window()),
    )
    assert not world.errors + other.errors
    world.fetched_once()
    world.took(1.0)
    settle_both(world, other)


def failing_process(product: Product, dice: random.Random) -> None:
    """What one process cannot fetch or keep, the other one fetches."""
    world = World(product)
    other = World(product, beside=world)
    world.cache.keeps = lambda _key: False
    failures = iter([StoreUnavailable("once")])

    def obey(_url: str, start: int, _stop: int) -> None:
        for error in failures if not start else ():
            raise error

    world.store.obey = obey
    run_threads(world.reads(0, 150), other.reads(0, 150), other.reads(0, 64, other.window()))
    assert len(world.errors) + len(other.errors) <= 2
    world.took(1.0)
    world.reader.close()
    world.cache.close()
    other.settle()


def settle_both(world: World, other: World) -> None:
    other.reader.close()
    other.cache.close()
    world.settle()
    other.settle()


SCENARIOS = (
    same_block,
    parts_and_blocks,
    sequential,
    failing_store,
    refusing_cache,
    few_unstored,
    little_memory,
    evictions,
    speculative,
    put_elsewhere,
    close_meanwhile,
    silent_store,
    late_requests,
    late_without_threads,
    no_threads,
    two_processes,
    failing_process,
)
