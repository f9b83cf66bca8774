"""An emulated network delays, limits and fails requests, and never changes their bytes."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from ego4dfs.config import resolve
from ego4dfs.config.emulation import FAILURES, Emulation
from ego4dfs.errors import StoreError, StoreUnavailable
from ego4dfs.metrics import Metrics
from ego4dfs.store import open_store
from ego4dfs.store.classify import Interrupted, Throttled
from ego4dfs.store.emulated_network import EmulatedNetwork
from ego4dfs.testing import MemoryStore, StoreContract, StoreUnderTest
from kit.cli import run_cli
from kit.data import seeded

URL = "s3://bucket/key"
DATA = seeded("emulated", 1_000_000)


def emulated(text: str) -> EmulatedNetwork:
    """Return one object behind the network that `--emulate` describes so."""
    store = MemoryStore()
    store.put(URL, DATA)
    return EmulatedNetwork(store, resolve({"emulate": text}, environ={}).emulate)


class TestContract(StoreContract):
    @pytest.fixture
    def under_test(self) -> StoreUnderTest:
        store = MemoryStore()

        def url(key: str) -> str:
            return f"s3://bucket/{key}"

        def put(key: str, data: bytes) -> str:
            store.put(url(key), data)
            return url(key)

        network = EmulatedNetwork(store, Emulation(rtt_s=0.0001, bytes_per_s=10**9))
        return StoreUnderTest(network, put, url)


def requests(network: EmulatedNetwork) -> list[Callable[[], object]]:
    """Return one request of each kind."""
    etag = MemoryStore.head(network._adapter, URL).etag
    return [
        lambda: network.head(URL),
        lambda: network.read_range(URL, 0, 1000),
        lambda: network.read(URL),
        lambda: network.stream_range(URL, 0, 1000, lambda *_: None, etag=etag),
    ]


@pytest.mark.parametrize("kind", FAILURES)
def test_each_failure_is_that_of_a_store_in_every_method(kind):
    expected = {"503": Throttled, "cut": Interrupted}
    network = emulated(f"fail={kind}:100%")
    for request in requests(network):
        with pytest.raises(StoreError) as error:
            request()
        assert type(error.value) is expected.get(kind, StoreUnavailable)


def test_the_share_of_failures_and_their_order_follow_from_the_seed():
    def outcomes(text: str) -> list[str]:
        network, found = emulated(text), []
        for _ in range(1000):
            try:
                network.head(URL)
                found.append("")
            except StoreError as error:
                found.append(type(error).__name__)
        return found

    first = outcomes("fail=503:10%,fail=cut:2.5%")
    assert 80 < first.count("Throttled") < 120
    assert 15 < first.count("Interrupted") < 35
    assert first.count("") == 1000 - first.count("Throttled") - first.count("Interrupted")
    assert outcomes("fail=503:10%,fail=cut:2.5%,seed=1") == first
    assert outcomes("fail=503:10%,fail=cut:2.5%,seed=2") != first


def test_each_request_waits_for_a_round_trip_and_each_body_for_its_bytes(monkeypatch):
    network, waits = emulated("rtt=30ms,rate=2MB/s"), []
    monkeypatch.setattr(network._closed, "wait", waits.append)
    for request in requests(network)[:3]:
        request()
    assert waits == [0.03, 0.03, 1000 / 2e6, 0.03, len(DATA) / 2e6]
    waits.clear()
    network.stream_range(URL, 0, len(DATA), lambda *_: None, etag=network.head(URL).etag)
    assert waits[:2] == [0.03, 0.03]
    assert waits[2] == pytest.approx(len(DATA) / 2e6, abs=0.4)


def test_an_unchanged_manifest_has_no_body_to_wait_for():
    network = emulated("fail=cut:100%")
    assert network.read(URL, unless_etag=MemoryStore.head(network._adapter, URL).etag) is None


def test_shares_that_sum_up_to_all_are_accepted():
    shares = "fail=500:33%,fail=503:56%,fail=cut:11%"
    with pytest.raises(StoreError):
        emulated(shares).head(URL)


def test_closing_ends_the_waits():
    network, ended = emulated("rtt=10s"), []

    def request() -> None:
        with pytest.raises(StoreUnavailable, match="closed"):
            network.head(URL)
        ended.append(True)

    thread = threading.Thread(target=request)
    thread.start()
    network.close()
    thread.join(60)
    assert ended == [True]


def test_retries_deliver_the_right_bytes_through_cuts_and_errors(tmp_path, no_retry_waits):
    """As in a mount: what stands above retries sees a slow store, not an unreliable one."""
    (tmp_path / "bucket").mkdir()
    (tmp_path / "bucket/key").write_bytes(DATA)
    metrics, received = Metrics(), bytearray()
    failing = resolve({"emulate": "fail=cut:30%,fail=500:10%"}, environ={}).emulate
    store = open_store(source=str(tmp_path), emulation=failing, metrics=metrics)
    etag = store.head(URL).etag
    for start in range(0, len(DATA), 100_000):
        store.stream_range(
            *(URL, start, start + 100_000, lambda _, data: received.extend(data)), etag=etag
        )
    assert received == DATA
    assert metrics.requests["get"] > 12
    store.close()


def test_commands_say_that_the_store_is_emulated(tmp_path: Path, licensee):
    directory = tmp_path / "ego4d-consortium-sharing/public/v2_1/imu"
    directory.mkdir(parents=True)
    (directory / "manifest.csv").write_text("video_uid,type,s3_path\na,file,s3://b/a.csv\n")
    done = run_cli(
        *("ls", "v2/imu", "--datasets", "imu", "--source", str(tmp_path)),
        *("--emulate", "rtt=1ms,rate=80MB/s,fail=500:99%,fail=cut:1%"),
        env=licensee,
        check=False,
    )
    assert "the store is emulated as slower and less reliable: 1 ms, 80 MB/s per request" in (
        done.stderr
    )
    assert "99% of requests fail with 500, 1% of answers are cut" in done.stderr
    assert done.returncode != 0
    assert "the store answered 500" in done.stderr
