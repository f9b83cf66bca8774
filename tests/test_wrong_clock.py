"""Messages where this machine's clock is wrong, and what must not depend on it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ego4dfs.config import resolve
from ego4dfs.doctor import Level, check_remote
from ego4dfs.errors import AccessDenied, CredentialsRejected, StoreUnavailable
from ego4dfs.store import ObjectStore, clock
from ego4dfs.store.bucket import Bucket as NearBucket
from ego4dfs.store.diagnose import reach
from kit.gateway import Faults, Gateway, Reply
from kit.near import BUCKET, PROFILE
from kit.tls import behind_tls, certificate

if TYPE_CHECKING:
    from kit.stores import Aws

SKEWED = (
    "<Error><Code>RequestTimeTooSkewed</Code><Message>The difference between the request time and"
    " the current time is too large.</Message><RequestTime>{request}</RequestTime>"
    "<ServerTime>2026-03-01T00:00:00Z</ServerTime>"
    "<MaxAllowedSkewMilliseconds>900000</MaxAllowedSkewMilliseconds></Error>"
)
TRANSPORTS = pytest.mark.parametrize("transport", ["obstore", "s3fs"])


def refusal(request_time: str) -> Faults:
    """Return the faults with which all requests are refused as S3 refuses those of this time."""
    body = SKEWED.format(request=request_time).encode()
    return Faults(reply=Reply(403, {"Content-Type": "application/xml"}, body))


@pytest.mark.fault(
    area="keys",
    fault="the clock is wrong by more than 15 minutes, so that S3 refuses all requests",
    face="all",
    sees="a message that says by how much, and how to set it; nothing is recorded as refused",
    deadline="at once",
)
@TRANSPORTS
@pytest.mark.parametrize(
    ("request_time", "says"),
    [
        ("20260301T053000Z", "6 h ahead of"),
        ("20260228T231000Z", "50 min behind"),
        ("20000301T000000Z", "9496 d behind"),
        ("Sun, 01 Mar 2026", "too far from"),
    ],
)
def test_a_refusal_for_the_clock_says_by_how_much_it_is_wrong(
    licensed: Aws,
    gateway: Gateway,
    opened: Callable[..., ObjectStore],
    transport: str,
    request_time: str,
    says: str,
) -> None:
    store = opened(endpoint_url=gateway.url, transport=transport)
    gateway.faults = refusal(request_time)
    url = "s3://store-plain/key"
    for call in (store.head, store.read, lambda url: store.read_range(url, 0, 1)):
        with pytest.raises(CredentialsRejected, match=f"{says} the store's") as caught:
            call(url)
        assert caught.value.hint == clock.HINT


def test_a_near_tier_that_refuses_for_the_clock_says_so(near) -> None:
    bucket = NearBucket(
        f"s3://{BUCKET}/{near.prefix}", endpoint_url=near.gateway.url, profile=PROFILE
    )
    near.gateway.faults = refusal("20260301T053000Z")
    with pytest.raises(AccessDenied, match="6 h ahead of the store's") as caught:
        bucket.get("a", 30)
    assert caught.value.hint == clock.HINT
    bucket.close()


def test_files_that_were_refused_for_the_clock_are_asked_for_again(
    open_tree, release, gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    release.dataset("annotations", {"a.json": b"{}"})
    monkeypatch.setenv("AWS_ENDPOINT_URL", gateway.url)
    vfs = open_tree(version=release.version, datasets=["annotations"])
    path = f"{release.version}/annotations/a.json"
    vfs.listdir(f"{release.version}/annotations")
    gateway.faults = refusal("20260301T053000Z")
    with pytest.raises(CredentialsRejected):
        vfs.stat(path)
    gateway.reset()
    assert vfs.stat(path).size == 2


@pytest.mark.fault(
    area="network",
    fault="the clock is so wrong that no certificate is valid",
    face="all",
    sees="a message that names the clock and its time",
    deadline="60 s",
)
@TRANSPORTS
@pytest.mark.parametrize("years", [(2001, 2002), (2090, 2091)], ids=["ahead", "behind"])
def test_a_certificate_of_another_time_is_blamed_on_the_clock(
    licensed: Aws,
    gateway: Gateway,
    no_retry_waits: None,
    opened: Callable[..., ObjectStore],
    tmp_path: Path,
    years: tuple[int, int],
    transport: str,
) -> None:
    begins, ends = (f"{year}0101000000Z" for year in years)
    made, key = certificate(tmp_path, begins=begins, ends=ends)
    licensed.variables(AWS_CA_BUNDLE=str(made))
    url = behind_tls(gateway, made, key)
    near = NearBucket("s3://near/x", endpoint_url=url)
    for call in (
        lambda: opened(endpoint_url=url, transport=transport).head("s3://store-plain/key"),
        lambda: reach(url, "store-plain"),
        lambda: near.get("a", 30),
    ):
        with pytest.raises(StoreUnavailable, match="by this machine's clock") as caught:
            call()
        assert clock.HINT in f"{caught.value} {caught.value.hint}"


@pytest.mark.parametrize(
    ("hours", "level", "says"),
    [(0, Level.OK, "right to the minute"), (5, Level.WARN, "5 h ahead"), (-48, Level.WARN, "2 d")],
)
def test_doctor_compares_the_clock_with_that_of_the_store(
    licensee, gateway: Gateway, monkeypatch: pytest.MonkeyPatch, hours, level, says
) -> None:
    now = datetime.now(timezone.utc) - timedelta(hours=hours)
    gateway.faults.headers = {"Date": f"{now:%a, %d %b %Y %H:%M:%S} GMT"}
    monkeypatch.setenv("AWS_ENDPOINT_URL", gateway.url)
    checks = check_remote(resolve({"datasets": ["annotations"]}))
    [found] = [check for check in checks if check.name == "clock"]
    assert found.level is level
    assert says in found.found
    assert bool(found.remedy) == (level is Level.WARN)


@pytest.mark.parametrize("date", ["", "soon", "Sun, 99 Mar 2026 00:00:00 GMT"])
def test_an_answer_without_a_time_says_nothing_about_the_clock(
    aws: Aws, gateway: Gateway, date: str
) -> None:
    headers = {"Date": date} if date else {}
    gateway.faults = Faults(reply=Reply(403, {"x-amz-bucket-region": "r", **headers}))
    assert reach(gateway.url, "store-plain") == ("r", None)
