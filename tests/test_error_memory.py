"""A failed read keeps no memory: what it used is freed without a garbage collection.

A mount collects rarely, and an error that is kept refers to all frames that it was raised through.
"""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Callable, Iterator

import pytest

from ego4dfs.blocks import PART_SIZE, ObjectRef, block_extent, part_extents
from ego4dfs.errors import StoreError, StoreUnavailable, detach, renewed
from ego4dfs.facts import FactsIndex
from ego4dfs.reader import Window
from ego4dfs.reader.flight import Flight
from ego4dfs.runtime.daemon_threads import call_with_timeout
from ego4dfs.store import ObjectFacts, ObjectStore, WrongSize, s3fs_s3
from ego4dfs.store.classify import Throttled
from kit.data import seeded
from kit.fakes import StallingStore
from kit.fault_kinds import KINDS
from kit.gateway import Faults, Gateway
from kit.processes import wait_until
from kit.reader import settle

DATA = seeded("error memory", 3 * PART_SIZE)
QUICK = (
    *("connections reset", "connections closed", "bodies cut", "ranges ignored"),
    *("500 InternalError", "403 AccessDenied", "another version", "416 for each range"),
    *("no ETag", "a redirect", "an answer without content"),
)


@pytest.fixture
def no_collection() -> Iterator[None]:
    """Free nothing but what no object refers to."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def flights(keys: set[str]) -> int:
    """Count the flights of objects that this test reads."""
    return sum(type(one) is Flight and one.extent.key in keys for one in gc.get_objects())


def shares() -> Iterator[tuple[str, str]]:
    """Yield each kind with "all", and with "some" if some requests can be answered."""
    for kind in QUICK:
        yield kind, "all"
        if any(name.endswith("_every") and count != 1 for name, count in KINDS[kind].items()):
            yield kind, "some"


@pytest.mark.parametrize("transport", ["obstore", "s3fs"])
@pytest.mark.parametrize(
    ("kind", "share"),
    [("503 SlowDown", "some"), *shares()],
)
def test_failed_and_repeated_reads_leave_no_buffer(  # noqa: PLR0917
    licensed: object,
    gateway: Gateway,
    url: str,
    opened: Callable[..., ObjectStore],
    make_reader,
    no_retry_waits: None,
    no_collection: None,
    transport: str,
    kind: str,
    share: str,
) -> None:
    store = opened(endpoint_url=gateway.url, transport=transport)
    facts = store.head(url)
    reader = make_reader(store)
    settings = {name: value for name, value in KINDS[kind].items() if name != "only"}
    every = {name: 1 for name in settings if name.endswith("_every")} if share == "all" else {}
    gateway.faults = Faults(**{**settings, **every})
    views: list[weakref.ref[memoryview]] = []
    failed = 0

    def read(ref: ObjectRef, window: Window | None) -> int:
        view = memoryview(bytearray(2 * PART_SIZE))
        views.append(weakref.ref(view))
        try:
            reader.read_into(ref, 0, view, window)
        except StoreError:
            return 1
        return 0

    keys: set[str] = set()
    for number in range(4):
        one = ObjectRef.of(f"source {number}", url, facts.size, facts.etag)
        keys |= {extent.key for extent in (block_extent(one, 0), *part_extents(one, 0, one.size))}
        failed += read(one, Window() if number % 2 else None)
        settle(reader)
    assert failed == 4 or share == "some"
    wait_until(lambda: not flights(keys), 10)
    assert [view() for view in views if view() is not None] == []


def test_dropped_filesystems_of_s3fs_are_freed(
    licensed: object,
    gateway: Gateway,
    url: str,
    opened: Callable[..., ObjectStore],
    no_collection: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each is several MiB, and has connections."""
    monkeypatch.setattr("ego4dfs.store.s3fs_s3.COLLECT_EVERY_S", 0.0)
    made: list[weakref.ref[object]] = []
    new = s3fs_s3._new_filesystem

    def record(*arguments: object) -> object:
        filesystem = new(*arguments)
        made.append(weakref.ref(filesystem))
        return filesystem

    monkeypatch.setattr(s3fs_s3, "_new_filesystem", record)
    store = opened(endpoint_url=gateway.url, transport="s3fs")
    for _ in range(5):
        store.head(url)
        store._made.adapter._pools.clear()  # as if the network had changed
    store.head(url)
    assert len(made) == 6
    assert sum(one() is not None for one in made) <= 2


def test_threads_that_wait_for_one_failure_keep_nothing_of_each_other(tmp_path, no_collection):
    store = StallingStore()
    store.fail(StoreUnavailable("down"))
    index = FactsIndex(tmp_path, store)
    views: list[weakref.ref[memoryview]] = []
    kept: list[StoreError] = []

    def get(number: int) -> None:
        view = memoryview(bytearray(1))
        views.append(weakref.ref(view))
        try:
            index.get("s3://b/k")
        except StoreError as error:
            if number == 0:
                kept.append(error)

    threads = [threading.Thread(target=get, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    wait_until(lambda: len(views) == 3)
    store.gate.set()
    for thread in threads:
        thread.join()
    index.close()
    assert len(kept) == 1
    assert sum(view() is not None for view in views) <= 1


@pytest.mark.parametrize("error", [s3fs_s3._Slow, ValueError, MemoryError])
def test_a_failed_coroutine_of_s3fs_keeps_nothing_of_its_caller(
    licensed: object,
    gateway: Gateway,
    url: str,
    opened: Callable[..., ObjectStore],
    no_collection: None,
    error: type[Exception],
) -> None:
    store = opened(endpoint_url=gateway.url, transport="s3fs")
    store.head(url)
    adapter = store._made.adapter
    loop = next(iter(adapter._pools._pools.values())).client.loop
    views: list[weakref.ref[memoryview]] = []

    async def fail() -> None:
        raise error

    def call() -> None:
        view = memoryview(bytearray(1))
        views.append(weakref.ref(view))
        try:
            adapter._await(url, loop, fail)
        except StoreError:
            return

    call()
    wait_until(lambda: views[0]() is None, 10)  # the thread of the loop ends its work on the task


def test_a_failed_call_with_a_time_limit_keeps_nothing(no_collection):
    views: list[weakref.ref[memoryview]] = []

    def fail() -> None:
        view = memoryview(bytearray(1))
        views.append(weakref.ref(view))
        raise StoreError("text")

    def call() -> None:
        try:
            call_with_timeout(10, fail, name="fail")
        except StoreError:
            return

    call()
    wait_until(lambda: views[0]() is None, 10)


@pytest.mark.parametrize(
    "error",
    [
        StoreError("text", url="s3://b/k", hint="remedy"),
        Throttled("text", url="s3://b/k", retry_after_s=5.0),
        WrongSize("s3://b/k", 5, ObjectFacts(6, "e", "", 0)),
    ],
)
def test_a_renewed_error_is_equal_and_the_kept_one_stays_without_a_traceback(error):
    kept = detach(error)
    for _ in range(2):
        with pytest.raises(StoreError) as caught:
            raise renewed(kept)
        raised = caught.value
        assert (type(raised), str(raised)) == (type(error), str(error))
        assert vars(raised) == vars(error)
        assert raised is not kept
    assert (kept.__traceback__, kept.__context__) == (None, None)


def test_an_unexpected_error_keeps_its_traceback():
    with pytest.raises(ZeroDivisionError) as caught:
        1 / 0  # noqa: B018
    assert detach(caught.value).__traceback__ is not None
    assert renewed(caught.value) is caught.value
