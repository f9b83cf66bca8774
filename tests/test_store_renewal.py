"""Messages for refused keys, and the use of renewed keys."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from ego4dfs.demo.server import S3Server
from ego4dfs.errors import AccessDenied, CredentialsRejected
from ego4dfs.metrics import Metrics
from ego4dfs.store import ObjectStore
from kit.gateway import Gateway

if TYPE_CHECKING:
    from kit.stores import Aws, Bucket

SECRET = "never/to+be/SEEN0123456789abcdefghijklmn"  # noqa: S105 - made up


@dataclass(frozen=True)
class Renewal:
    """A licensee whose key is in ~/.aws/credentials, an object, and a store behind the gateway."""

    aws: Aws
    server: S3Server
    gateway: Gateway
    url: str
    store: ObjectStore

    def reject(self, code: str) -> None:
        """Reject the licensee's key from now on."""
        self.gateway.faults.rejected_keys = {self.server.licensee.access_key: code}

    def renew(self) -> None:
        """Put another key into the file, one that is accepted."""
        self.aws.keys(self.server.admin.access_key, self.server.admin.secret_key)

    @property
    def calls(self) -> tuple[Callable[[str], object], ...]:
        """All that a store can be called for, by URL."""
        return (self.store.head, self.store.read, lambda url: self.store.read_range(url, 0, 1))


@pytest.fixture(params=["obstore", "s3fs"])
def renewal(
    request: pytest.FixtureRequest,
    licensed: Aws,
    server: S3Server,
    gateway: Gateway,
    bucket: Bucket,
    opened: Callable[..., ObjectStore],
) -> Renewal:
    url = bucket.put("a.bin", b"data")
    store = opened(endpoint_url=gateway.url, transport=request.param)
    return Renewal(licensed, server, gateway, url, store)


def test_a_renewed_key_works_without_reopening(renewal: Renewal) -> None:
    """The licence key expires while a mount runs; the new one is written to ~/.aws/credentials."""
    renewal.store.head(renewal.url)
    renewal.reject("InvalidAccessKeyId")
    for call in renewal.calls:
        with pytest.raises(CredentialsRejected, match="unknown key") as caught:
            call(renewal.url)
        assert "14 days" in caught.value.hint
    renewal.renew()
    assert bytes(renewal.store.read_range(renewal.url, 0, 4).data) == b"data"
    assert renewal.store.head(renewal.url).size == 4


def test_a_renewal_under_load_fails_no_request_that_comes_after_it(renewal: Renewal) -> None:
    renewal.store.head(renewal.url)
    renewal.reject("ExpiredToken")
    renewal.renew()
    with ThreadPoolExecutor(16) as pool:
        sizes = list(pool.map(lambda _: renewal.store.head(renewal.url).size, range(100)))
    assert sizes == [4] * 100


def test_an_expired_key_costs_one_request_per_call(renewal: Renewal) -> None:
    """With the same key in the file, a second request would be rejected too."""
    renewal.reject("ExpiredToken")
    with pytest.raises(CredentialsRejected, match="expired"):
        renewal.store.read_range(renewal.url, 0, 1)
    assert renewal.gateway.methods == {"GET": 1}


def test_a_key_of_another_account_can_be_replaced_too(renewal: Renewal) -> None:
    """A key that is valid but not licensed is refused; one written since then is tried at once."""
    renewal.reject("AccessDenied")
    with pytest.raises(AccessDenied) as caught:
        renewal.store.head(renewal.url)
    assert not isinstance(caught.value, CredentialsRejected)
    renewal.renew()
    assert renewal.store.head(renewal.url).size == 4


@pytest.mark.parametrize(
    ("access_key", "says"),
    [("", "wrong secret"), ("AKIAUNKNOWN", "unknown key")],
)
def test_refusals_of_a_real_server_are_distinguished(
    renewal: Renewal, access_key: str, says: str
) -> None:
    """Also on HEAD, whose refusal has no body; no message holds a secret."""
    renewal.aws.keys(access_key or renewal.server.licensee.access_key, SECRET)
    for call in renewal.calls:
        with pytest.raises(CredentialsRejected, match=says) as caught:
            call(renewal.url)
        error = caught.value
        assert SECRET not in f"{error} {error!r} {error.hint}"
        assert "Signature=" not in str(error)
        assert error.__cause__ is None


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
def test_each_rejection_names_its_cause(renewal: Renewal, code: str, says: str) -> None:
    renewal.reject(code)
    with pytest.raises(CredentialsRejected, match=says) as caught:
        renewal.store.head(renewal.url)
    assert caught.value.hint


def test_without_a_key_no_request_is_sent_or_counted(
    aws: Aws, gateway: Gateway, opened: Callable[..., ObjectStore], metrics: Metrics
) -> None:
    store = opened(endpoint_url=gateway.url)
    with pytest.raises(CredentialsRejected):
        store.head("s3://store-plain/key")
    assert gateway.requests == sum(metrics.requests.values()) == 0
