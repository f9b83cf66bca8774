"""What a refused key says, and how the next one comes into force."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from ego4dfs.demo.server import S3Server
from ego4dfs.errors import AccessDenied, CredentialsRejected
from ego4dfs.metrics import Metrics
from ego4dfs.store import ObjectStore
from kit.gateway import Gateway

if TYPE_CHECKING:
    from kit.stores import Aws, Bucket

TRANSPORTS = pytest.mark.parametrize("transport", ["obstore", "s3fs"])
SECRET = "never/to+be/SEEN0123456789abcdefghijklmn"  # noqa: S105 - made up


@TRANSPORTS
def test_a_renewed_key_works_without_reopening(
    aws: Aws,
    server: S3Server,
    gateway: Gateway,
    bucket: Bucket,
    opened: Callable[..., ObjectStore],
    transport: str,
) -> None:
    """The licence key expires while a mount runs; the new one is typed into ~/.aws/credentials."""
    url = bucket.put("a.bin", b"data")
    aws.keys(server.licensee.access_key, server.licensee.secret_key)
    store = opened(endpoint_url=gateway.url, transport=transport)
    store.head(url)
    gateway.faults.rejected_keys = {server.licensee.access_key: "InvalidAccessKeyId"}
    for ask in (store.head, store.read, lambda url: store.read_range(url, 0, 1)):
        with pytest.raises(CredentialsRejected, match="unknown key") as caught:
            ask(url)
        assert "14 days" in caught.value.hint
    aws.keys(server.admin.access_key, server.admin.secret_key)
    assert bytes(store.read_range(url, 0, 4).data) == b"data"
    assert store.head(url).size == 4


@TRANSPORTS
def test_a_renewal_under_load_fails_no_request_that_comes_after_it(
    aws: Aws,
    server: S3Server,
    gateway: Gateway,
    bucket: Bucket,
    opened: Callable[..., ObjectStore],
    transport: str,
) -> None:
    url = bucket.put("a.bin", b"data")
    aws.keys(server.licensee.access_key, server.licensee.secret_key)
    store = opened(endpoint_url=gateway.url, transport=transport)
    store.head(url)
    gateway.faults.rejected_keys = {server.licensee.access_key: "ExpiredToken"}
    aws.keys(server.admin.access_key, server.admin.secret_key)
    with ThreadPoolExecutor(16) as pool:
        sizes = list(pool.map(lambda _: store.head(url).size, range(100)))
    assert sizes == [4] * 100


@TRANSPORTS
def test_an_expired_key_costs_one_request_per_call(
    licensed: Aws,
    server: S3Server,
    gateway: Gateway,
    bucket: Bucket,
    opened: Callable[..., ObjectStore],
    transport: str,
) -> None:
    """With the same key in the file, asking again would be in vain."""
    url = bucket.put("a.bin", b"data")
    store = opened(endpoint_url=gateway.url, transport=transport)
    gateway.faults.rejected_keys = {server.licensee.access_key: "ExpiredToken"}
    with pytest.raises(CredentialsRejected, match="expired"):
        store.read_range(url, 0, 1)
    assert gateway.methods == {"GET": 1}


@TRANSPORTS
def test_another_account_s_key_can_be_put_right_too(
    aws: Aws,
    server: S3Server,
    gateway: Gateway,
    bucket: Bucket,
    opened: Callable[..., ObjectStore],
    transport: str,
) -> None:
    """A key that is valid but not licensed is refused; one written since then is tried at once."""
    url = bucket.put("a.bin", b"data")
    aws.keys(server.licensee.access_key, server.licensee.secret_key)
    store = opened(endpoint_url=gateway.url, transport=transport)
    gateway.faults.rejected_keys = {server.licensee.access_key: "AccessDenied"}
    with pytest.raises(AccessDenied) as caught:
        store.head(url)
    assert not isinstance(caught.value, CredentialsRejected)
    aws.keys(server.admin.access_key, server.admin.secret_key)
    assert store.head(url).size == 4


@TRANSPORTS
@pytest.mark.parametrize(
    ("access_key", "says"),
    [("", "wrong secret"), ("AKIAUNKNOWN", "unknown key")],
)
def test_refusals_of_a_real_server_are_distinguished(
    aws: Aws,
    server: S3Server,
    bucket: Bucket,
    opened: Callable[..., ObjectStore],
    transport: str,
    access_key: str,
    says: str,
) -> None:
    """Also on HEAD, whose refusal has no body; no message holds a secret."""
    aws.keys(access_key or server.licensee.access_key, SECRET)
    store = opened(endpoint_url=server.endpoint_url, transport=transport)
    url = bucket.put("a.bin", b"data")
    for ask in (store.head, store.read, lambda url: store.read_range(url, 0, 1)):
        with pytest.raises(CredentialsRejected, match=says) as caught:
            ask(url)
        error = caught.value
        assert SECRET not in f"{error} {error!r} {error.hint}"
        assert "Signature=" not in str(error)
        assert error.__cause__ is None


@TRANSPORTS
@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("ExpiredToken", "expired"),
        ("TokenRefreshRequired", "expired"),
        ("RequestTimeTooSkewed", "clock"),
        ("InvalidToken", "token"),
        ("AccountProblem", "account"),
    ],
)
def test_each_rejection_says_which(
    licensed: Aws,
    server: S3Server,
    gateway: Gateway,
    opened: Callable[..., ObjectStore],
    transport: str,
    code: str,
    says: str,
) -> None:
    store = opened(endpoint_url=gateway.url, transport=transport)
    gateway.faults.rejected_keys = {server.licensee.access_key: code}
    with pytest.raises(CredentialsRejected, match=says) as caught:
        store.head("s3://store-plain/key")
    assert caught.value.hint


def test_without_a_key_no_request_is_sent_or_counted(
    aws: Aws, gateway: Gateway, opened: Callable[..., ObjectStore], metrics: Metrics
) -> None:
    store = opened(endpoint_url=gateway.url)
    with pytest.raises(CredentialsRejected):
        store.head("s3://store-plain/key")
    assert gateway.requests == sum(metrics.requests.values()) == 0
