"""A failed read keeps no memory: what it used is freed without a garbage collection.

A mount collects rarely, and an error that is kept refers to all frames that it was raised through.
"""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Iterator

import pytest

from ego4dfs.blocks import PART_SIZE, ObjectRef
from ego4dfs.errors import StoreError, StoreUnavailable, detach, renewed
from ego4dfs.facts import FactsIndex
from ego4dfs.reader import Window
from ego4dfs.reader.flights import Flight
from ego4dfs.store import ObjectFacts, ObjectStore, WrongSize, s3fs_s3
from ego4dfs.store.classify import Throttled
from kit.data import seeded
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


def flights() -> int:
    return sum(type(one) is Flight for one in gc.get_objects())


@pytest.mark.parametrize("transport", ["obstore", "s3fs"])
@pytest.mark.parametrize(
    ("kind", "share"),
    [("503 SlowDown", "some"), *((kind, share) for kind in QUICK for share in ("all", "some"))],
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

    def read(ref: ObjectRef, window: Window | None) -> None:
        view = memoryview(bytearray(2 * PART_SIZE))
        views.append(weakref.ref(view))
        try:
            reader.read_into(ref, 0, view, window)
        except StoreError:
            return

    for number in range(4):
        one = ObjectRef.of(f"source {number}", url, facts.size, facts.etag)
        read(one, Window() if number % 2 else None)
        settle(reader)
    wait_until(lambda: not flights(), 10)
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
    class Refusing:
        source = "refusing"

        def head(self, url: str) -> ObjectFacts:
            raise StoreUnavailable("down", url=url)

    index = FactsIndex(tmp_path, Refusing())
    errors: list[weakref.ref[StoreError]] = []
    for _ in range(3):
        try:
            index.get("s3://b/k")
        except StoreError as error:
            errors.append(weakref.ref(error))
    index.close()
    assert [error() for error in errors] == [None, None, None]


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
