"""The connections of a store: bounded in number, and renewed when they are dead."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING

import pytest

from ego4dfs.errors import StoreError
from ego4dfs.store import ObjectStore, client_pool
from ego4dfs.store import bucket as store_bucket
from ego4dfs.store.client_pool import ClientPool
from kit.gateway import Gateway
from kit.processes import wait_until

if TYPE_CHECKING:
    from kit.stores import Aws, Bucket

DATA = bytes(range(256)) * 64
READERS = 4


def is_right(store: ObjectStore, url: str, start: int) -> bool:
    """Return whether the store sends the right bytes of DATA from `start` on."""
    return bytes(store.read_range(url, start, start + 10).data) == DATA[start : start + 10]


@pytest.mark.fault(
    area="network",
    fault="connections that died with a change of network (VPN, Wi-Fi, NAT, resume)",
    face="all",
    sees="running reads take a few seconds longer and return the right bytes",
    deadline="5 s after new connections work",
)
@pytest.mark.parametrize("transport", ["obstore", "s3fs"])
def test_dead_connections_are_replaced_by_new_ones_after_the_first_time_out(
    transport: str,
    licensed: Aws,
    gateway: Gateway,
    bucket: Bucket,
    opened: Callable[..., ObjectStore],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(client_pool, "FIRST_TIMEOUT_S", 2.0)
    url = bucket.put("a.bin", DATA)
    store = opened(endpoint_url=gateway.url, transport=transport)
    timed_out: list[str] = []
    renewed = ClientPool.renew

    def renew(pool: ClientPool[object], name: str) -> None:
        timed_out.append(name)
        renewed(pool, name)

    read = partial(is_right, store, url)
    with ThreadPoolExecutor(READERS) as readers, monkeypatch.context() as patch:
        # On a busy machine a first response may be slow: the client would be replaced for that.
        patch.setattr(ClientPool, "answered", lambda *_: None)
        gateway.faults.latency_s = 0.05  # so that each reader has a connection of its own
        assert all(readers.map(read, range(READERS)))
        patch.undo()
        gateway.abandon_connections()
        monkeypatch.setattr(ClientPool, "renew", renew)
        assert all(readers.map(read, range(4 * READERS)))
    [most] = Counter(timed_out).most_common(1)
    assert most[1] <= READERS  # no request after these is sent to a dead connection


@pytest.mark.parametrize("transport", ["obstore", "s3fs"])
def test_the_time_out_of_a_slow_store_grows_after_the_first_one(
    transport: str,
    licensed: Aws,
    gateway: Gateway,
    bucket: Bucket,
    opened: Callable[..., ObjectStore],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One additional request, once; then it is known that the store is slow."""
    monkeypatch.setattr(client_pool, "FIRST_TIMEOUT_S", 0.3)
    url = bucket.put("a.bin", DATA)
    store = opened(endpoint_url=gateway.url, transport=transport)
    gateway.faults.stall_s = 0.6
    assert store.head(url).size == len(DATA)
    assert store.head(url).size == len(DATA)
    assert gateway.methods == {"HEAD": 3}


@pytest.mark.fault(
    area="answers",
    fault="a release in hundreds of buckets",
    face="all",
    sees="connections to the 32 buckets used last are kept",
    deadline="none: a bound",
)
def test_connections_do_not_grow_with_the_number_of_buckets(
    licensed: Aws, gateway: Gateway, opened: Callable[..., ObjectStore]
) -> None:
    store = opened(endpoint_url=gateway.url, transport="obstore")

    def refused(number: int) -> None:
        with pytest.raises(StoreError):
            store.read_range(f"s3://no-such-bucket-{number}/key", 0, 1)

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(refused, range(200)))
    assert gateway.requests == 200
    wait_until(lambda: gateway.connections <= 128)


@pytest.mark.parametrize(
    ("transport", "bound"),
    [("obstore", "obstore_s3.MAX_IDLE"), ("s3fs", "s3fs_s3.MAX_CONNECTIONS")],
)
def test_idle_connections_are_kept_up_to_a_bound(
    transport: str,
    bound: str,
    licensed: Aws,
    gateway: Gateway,
    bucket: Bucket,
    opened: Callable[..., ObjectStore],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(f"ego4dfs.store.{bound}", READERS)
    monkeypatch.setattr("ego4dfs.store.obstore_s3.IDLE_TIMEOUT_S", 600)  # it closes none of them
    url = bucket.put("a.bin", DATA)
    store = opened(endpoint_url=gateway.url, transport=transport)
    gateway.faults.latency_s = 0.05  # so that requests run at the same time

    read = partial(is_right, store, url)
    with ThreadPoolExecutor(8 * READERS) as readers:
        assert all(readers.map(read, range(32 * READERS)))
    if transport == "obstore":
        assert gateway.peak > READERS
    wait_until(lambda: gateway.connections <= READERS, 20.0)


@pytest.mark.parametrize(
    ("transport", "timeout"),
    [
        ("obstore", "ego4dfs.store.obstore_s3.IDLE_TIMEOUT_S"),
        ("s3fs", "aiobotocore.config.DEFAULT_KEEPALIVE_TIMEOUT"),
    ],
)
def test_idle_connections_are_closed_after_a_while(
    transport: str,
    timeout: str,
    licensed: Aws,
    gateway: Gateway,
    bucket: Bucket,
    opened: Callable[..., ObjectStore],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(timeout, 1)
    url = bucket.put("a.bin", DATA)
    store = opened(endpoint_url=gateway.url, transport=transport)
    assert store.head(url).size == len(DATA)
    wait_until(lambda: gateway.connections == 0, 10.0)


def test_idle_connections_of_a_bucket_of_the_lab_are_closed_at_a_later_request(
    licensed: Aws, gateway: Gateway, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its requests use the connection that was used last."""
    bucket.put("a.bin", DATA)
    name, prefix = bucket.name, bucket.prefix.rstrip("/")
    lab = store_bucket.Bucket(f"s3://{name}/{prefix}", endpoint_url=gateway.url)
    gateway.faults.gate = threading.Event()

    def read(_: int = 0) -> bool:
        return lab.get("a.bin", 60.0) == DATA

    with ThreadPoolExecutor(READERS) as readers:
        reads = readers.map(read, range(READERS))
        wait_until(lambda: gateway.concurrent == READERS)
        gateway.faults.gate.set()
        assert all(reads)
    assert gateway.connections == READERS
    monkeypatch.setattr(store_bucket, "IDLE_S", 0.0)
    assert read()
    wait_until(lambda: gateway.connections == 1, 20.0)
    lab.close()
    wait_until(lambda: gateway.connections == 0, 20.0)


def test_many_failures_at_once_renew_a_client_once() -> None:
    made: list[float] = []
    clients: ClientPool[int] = ClientPool(lambda: 20.0)

    def client() -> int:
        return clients.client("bucket", "settings", lambda timeout_s: made.append(timeout_s) or 0)

    client()
    for _ in range(READERS):
        clients.renew("bucket")
        client()
    assert made == [client_pool.FIRST_TIMEOUT_S, 20.0]


def test_the_least_recently_used_client_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_pool, "MAX_CLIENTS", 2)
    made: list[str] = []
    clients: ClientPool[str] = ClientPool(lambda: 20.0)
    for name in ("a", "b", "a", "c", "a", "b"):
        clients.client(name, None, lambda _, name=name: made.append(name) or name)
    assert made == ["a", "b", "c", "b"]
