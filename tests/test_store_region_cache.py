"""Regions of buckets: configured, requested, or taken from an error of the store."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from ego4dfs.errors import StoreError, StoreUnavailable
from ego4dfs.metrics import Metrics
from ego4dfs.store import ObjectStore, aws_config_files, obstore_s3, region_cache, region_probe
from ego4dfs.store.network_settings import NetworkSettings
from ego4dfs.store.region_cache import Regions
from kit.gateway import Gateway
from kit.processes import wait_until

if TYPE_CHECKING:
    from kit.stores import Aws, Bucket

TRANSPORTS = pytest.mark.parametrize("transport", ["obstore", "s3fs"])
ENDPOINT = "http://127.0.0.1:9"


def at(endpoint: str, configured: str) -> str:
    return Regions(endpoint, lambda: configured, Metrics()).of("bucket")


@pytest.mark.parametrize("text", ["", "none", "None", "global", "aws-global", " ", "default"])
def test_an_invalid_region_counts_as_unset(text: str) -> None:
    """Users write such words in place of a region."""
    assert at(ENDPOINT, text) == "us-east-1"


@pytest.mark.parametrize("text", ["evil.example.com/x", "eu south 1", "a@b", "../x"])
def test_an_invalid_region_is_never_part_of_a_host_name(text: str) -> None:
    assert at(ENDPOINT, text) == "us-east-1"
    assert region_cache.valid_region(text, aws=True) == ""


def test_a_server_other_than_aws_may_have_its_own_region_names() -> None:
    assert at(ENDPOINT, "garage") == "garage"
    assert region_cache.valid_region("garage", aws=True) == ""


@pytest.mark.parametrize(
    "name", ["us-east-1", "eu-south-1", "ap-south-1", "us-gov-west-1", "il-central-1"]
)
def test_aws_region_names_are_known(name: str) -> None:
    assert region_cache.valid_region(name, aws=True) == name


@pytest.mark.parametrize(
    ("variables", "config", "profile", "region"),
    [
        ({"AWS_REGION": "eu-a-1", "AWS_DEFAULT_REGION": "eu-b-1"}, "", "", "eu-a-1"),
        ({"AWS_DEFAULT_REGION": "eu-b-1"}, "[default]\nregion = eu-c-1\n", "", "eu-b-1"),
        ({}, "[default]\nregion = eu-c-1\n", "", "eu-c-1"),
        ({}, "[profile x]\nregion = eu-d-1\n", "x", "eu-d-1"),
        ({"AWS_PROFILE": "x"}, "[profile x]\nregion = eu-d-1\n", "", "eu-d-1"),
        ({}, "", "", ""),
    ],
)
def test_the_configured_region(
    aws: Aws, variables: dict[str, str], config: str, profile: str, region: str
) -> None:
    aws.variables(**variables)
    aws.config(config)
    assert aws_config_files.region(profile) == region


@TRANSPORTS
@pytest.mark.parametrize("redirect", [False, True], ids=["400", "301"])
@pytest.mark.parametrize("first", ["head", "read", "read_range"])
def test_the_right_region_is_taken_from_the_error_of_the_store(
    licensed: Aws,
    gateway: Gateway,
    bucket: Bucket,
    opened: Callable[..., ObjectStore],
    transport: str,
    redirect: bool,  # noqa: FBT001 - a parameter of the test
    first: str,
) -> None:
    """With any call first, and for an answer of 400 or 301."""
    url = bucket.put("a.bin", b"data")
    store = opened(endpoint_url=gateway.url, transport=transport)
    gateway.faults.region, gateway.faults.redirect = "eu-south-1", redirect
    if first == "read_range":
        assert bytes(store.read_range(url, 0, 4).data) == b"data"
    else:
        getattr(store, first)(url)
    before = gateway.requests
    store.head(url)
    store.read_range(url, 0, 1)
    assert gateway.requests == before + 2


@TRANSPORTS
def test_each_bucket_has_a_region_of_its_own(
    licensed: Aws,
    gateway: Gateway,
    bucket: Bucket,
    versioned: Bucket,
    opened: Callable[..., ObjectStore],
    transport: str,
) -> None:
    store = opened(endpoint_url=gateway.url, transport=transport)
    here, there = bucket.put("a", b"data"), versioned.put("a", b"data")
    gateway.faults.region, gateway.faults.only = "ap-south-1", versioned.name
    for _ in range(2):
        assert store.head(here).size == store.head(there).size == 4
    before = gateway.requests
    store.head(here)
    store.head(there)
    assert gateway.requests == before + 2


@TRANSPORTS
def test_an_unknown_region_is_an_error_with_a_hint(
    licensed: Aws,
    gateway: Gateway,
    bucket: Bucket,
    opened: Callable[..., ObjectStore],
    transport: str,
) -> None:
    store = opened(endpoint_url=gateway.url, transport=transport)
    gateway.faults.region, gateway.faults.redirect = "eu-south-1", True
    gateway.faults.region_in_header = gateway.faults.region_in_body = False
    with pytest.raises(StoreError, match="in another region") as caught:
        store.head(bucket.put("a", b"data"))
    assert "AWS_REGION" in caught.value.hint
    assert gateway.requests <= 3


@TRANSPORTS
def test_requests_are_signed_for_the_configured_region(
    licensed: Aws,
    gateway: Gateway,
    bucket: Bucket,
    opened: Callable[..., ObjectStore],
    transport: str,
) -> None:
    gateway.faults.region = "eu-central-1"
    licensed.variables(AWS_REGION="eu-central-1")
    store = opened(endpoint_url=gateway.url, transport=transport)
    assert store.head(bucket.put("a", b"data")).size == 4
    assert gateway.requests == 1


def test_aws_gets_one_unsigned_request_for_each_bucket(
    gateway: Gateway, metrics: Metrics, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S3 names the region even when it refuses; sixteen threads send one request."""
    monkeypatch.setattr(region_probe, "AWS_URL", gateway.url)
    gateway.faults.region, gateway.faults.latency_s = "eu-central-1", 0.05
    regions = Regions("", lambda: "us-west-2", metrics)
    with ThreadPoolExecutor(16) as pool:
        assert set(pool.map(regions.of, ["ego4d-unict"] * 16)) == {"eu-central-1"}
    assert gateway.log == [("HEAD", "/ego4d-unict", 403)]
    assert metrics.requests["head"] == 1


def test_the_configured_region_is_used_if_aws_names_none(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(region_probe, "AWS_URL", gateway.url)
    assert at("", "us-west-2") == "us-west-2"
    assert at("", "none") == "us-east-1"


def test_without_an_answer_no_region_is_stored(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Offline, no guess is stored: the next request tries again."""
    monkeypatch.setattr(region_probe, "AWS_URL", gateway.url)
    gateway.faults.region = "eu-central-1"
    regions = Regions("", lambda: "us-west-2", Metrics())
    gateway.stop()
    with pytest.raises(StoreUnavailable):
        regions.of("bucket")
    gateway.start()
    assert regions.of("bucket") == "eu-central-1"


@pytest.mark.parametrize(
    ("bucket_name", "endpoint", "on_host"),
    [
        ("ego4d-unict", "https://ego4d-unict.s3.eu-central-1.amazonaws.com", True),
        ("dots.in.name", "https://s3.eu-central-1.amazonaws.com", False),
    ],
)
def test_aws_hosts_are_named_after_bucket_and_region(
    aws: Aws,
    bucket_name: str,
    endpoint: str,
    on_host: bool,  # noqa: FBT001
) -> None:
    """A bucket with dots does not fit AWS's certificate and goes into the path."""
    config = obstore_s3._config(bucket_name, "eu-central-1", "")
    assert (config["endpoint"], config["virtual_hosted_style_request"]) == (endpoint, on_host)


class CountingLock:
    """A lock that counts how often it was asked for."""

    def __init__(self) -> None:
        self.count = 0
        self._counting, self._lock = threading.Lock(), threading.Lock()

    def __enter__(self) -> None:
        with self._counting:
            self.count += 1
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()


@pytest.mark.fault(
    area="network",
    fault="the request for a bucket's region gets no answer, and many readers need it",
    face="all",
    sees="all of them fail with the same error, after one request",
    deadline="10 s",
)
def test_threads_that_wait_for_one_answer_share_its_failure(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gate, urls = threading.Event(), []

    def head(_network: NetworkSettings, url: str, _timeout_s: float) -> None:
        urls.append(url)
        assert gate.wait(60)
        raise TimeoutError

    monkeypatch.setattr(NetworkSettings, "head", head)
    where = Regions("", lambda: "", Metrics())
    where._gates["bucket"] = entries = CountingLock()
    with ThreadPoolExecutor(16) as pool:
        answers = [pool.submit(where.of, "bucket") for _ in range(16)]
        wait_until(lambda: entries.count == 16)  # so that no thread begins after the answer
        gate.set()
        assert all(isinstance(answer.exception(30), StoreUnavailable) for answer in answers)
    assert len(urls) == 1
    with pytest.raises(StoreUnavailable):
        where.of("bucket")
    assert len(urls) == 2  # a later caller sends a new request


def test_an_unusable_region_is_replaced_by_the_default(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Regions, "probe", lambda *_: "../evil")
    assert Regions("", lambda: "", Metrics()).of("bucket") == "us-east-1"


def test_an_answer_that_trickles_times_out() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=_trickle, args=[server], daemon=True).start()
        with pytest.raises(TimeoutError):
            NetworkSettings().head(f"http://127.0.0.1:{server.getsockname()[1]}", 0.3)


def _trickle(server: socket.socket) -> None:
    with suppress(OSError):
        connection, _ = server.accept()
        with connection:
            for _ in range(10_000):
                connection.sendall(b"H")
                time.sleep(0.1)
