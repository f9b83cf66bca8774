"""The S3 adapter over obstore, written in Rust: four times as many small objects/s as s3fs."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urlsplit

import obstore
from obstore.exceptions import BaseError, NotModifiedError
from obstore.store import S3Store

from ego4dfs.errors import StoreError
from ego4dfs.runtime.deadline import ATTEMPT_S, CONNECT_S, QUIET_S
from ego4dfs.store.aws_config_files import Keys
from ego4dfs.store.classify import (
    Answer,
    WrongRegion,
    error_of,
    foreign,
    too_slow,
    truncated,
)
from ego4dfs.store.client_pool import ClientPool
from ego4dfs.store.credentials import Credentials
from ego4dfs.store.network_settings import NetworkSettings
from ego4dfs.store.obstore_errors import NOT_PARTIAL, NOWHERE, TIMED_OUT, answer_in
from ego4dfs.store.protocol import (
    Adapter,
    Fetched,
    ObjectFacts,
    Sink,
    check_whole,
    place_of,
)
from ego4dfs.store.region_cache import Regions
from ego4dfs.store.response_checks import (
    check_version,
    etag_of,
    header_of,
    is_web_page,
    missing_headers,
    pin_of,
    time_ns,
)
from ego4dfs.store.s3_url import split_s3_url
from ego4dfs.store.throughput import BodyThroughput, BucketThroughput

if TYPE_CHECKING:
    from obstore import GetOptions, GetResult
    from obstore.store import ClientConfig, S3Config, S3Credential

Result = TypeVar("Result")

READ_TIMEOUT_S = QUIET_S
WHOLE_TIMEOUT_S = ATTEMPT_S
"""obstore's calls cannot be interrupted: this ends a body that arrives too slowly."""
WATCHED_TIMEOUT_S = 6 * 3600.0
"""Slow bodies are read as they arrive, and abandoned below the minimum throughput."""
IDLE_TIMEOUT_S = 20  # S3 closes idle connections after about this time; the pool looks as often
MAX_IDLE = 128  # as many as the requests of a bucket: fewer would be closed between two bursts
STREAM_PIECE_BYTES = 256 << 10  # a killed download loses this much of each connection
SHORT_BYTES, SHORT_PIECE_BYTES = 1 << 20, 64 << 10  # a reader waits for the first bytes

_NOT_EXPRESSIBLE = re.compile(r"[\x00-\x1f\x7f]|(?:^|/)\.{0,2}(?:/|\Z)")
_UNKNOWN_BYTES = 8 << 20  # manifests


class ObstoreS3:
    """Objects of S3 read with obstore, one connection pool per bucket, and one for slow bodies.

    A request is bounded by `WHOLE_TIMEOUT_S`. If the bodies of a bucket are too slow for that, they
    are read piece by piece as they arrive, as long as they keep the minimum throughput.
    Safe from several threads. `fallback` serves keys that obstore cannot express, and requests
    that obstore could redirect to another host.
    """

    def __init__(
        self,
        endpoint_url: str,
        credentials: Credentials,
        regions: Regions,
        network: NetworkSettings,
        fallback: Adapter,
    ) -> None:
        self._endpoint_url = endpoint_url
        self._credentials = credentials
        self._regions = regions
        self._network = network
        self._fallback = fallback
        self._proxies: dict[str, str] = {}
        self._pools: ClientPool[S3Store] = ClientPool(lambda: READ_TIMEOUT_S)
        self._throughput = BucketThroughput()

    @property
    def source(self) -> str:
        """The endpoint, or AWS."""
        return self._endpoint_url or "s3.amazonaws.com"

    def head(self, url: str) -> ObjectFacts:
        """See ObjectStore."""
        result = self._get(url, {"head": True}, is_slow=False)
        return self._fallback.head(url) if result is None else _facts(result, url)

    def read_range(
        self, url: str, start: int, stop: int, *, etag: str = "", size: int | None = None
    ) -> Fetched:
        """See ObjectStore."""
        is_slow = self._is_slow(url, stop - start)
        result = self._get(url, _ranged(start, stop, etag), is_slow)
        if result is None:
            return self._fallback.read_range(url, start, stop, etag=etag, size=size)
        facts = _facts(result, url)
        check_version(url, facts, etag=etag, size=size)
        place = place_of(start, stop, facts.size)
        if result.range[0] != place.start:
            raise StoreError(f"{url}: the store sent another range than requested", url=url)
        data = self._whole(result, url, len(place), is_slow)
        return Fetched(data, place.start, facts)

    def stream_range(
        self,
        url: str,
        start: int,
        stop: int,
        sink: Sink,
        *,
        etag: str,
        size: int | None = None,
    ) -> None:
        """See ObjectStore."""
        is_slow = self._is_slow(url, stop - start)
        result = self._get(url, _ranged(start, stop, etag), is_slow)
        if result is None:
            self._fallback.stream_range(url, start, stop, sink, etag=etag, size=size)
            return
        check_version(url, _facts(result, url), etag=etag, size=size)
        if result.range != (start, stop):
            raise StoreError(f"{url}: the store sent another range than requested", url=url)
        position = start
        least = SHORT_PIECE_BYTES if stop - start <= SHORT_BYTES else STREAM_PIECE_BYTES
        for piece in self._body(url, result, 1 if is_slow else least):
            if position + len(piece) > stop:
                raise truncated(url, position + len(piece) - start, stop - start)
            sink(position, piece)
            position += len(piece)
        if position != stop:
            raise truncated(url, position - start, stop - start)

    def read(self, url: str, *, unless_etag: str = "") -> Fetched | None:
        """See ObjectStore."""
        options: GetOptions = {"if_none_match": header_of(unless_etag)} if unless_etag else {}
        is_slow = self._is_slow(url, _UNKNOWN_BYTES)
        try:
            result = self._get(url, options, is_slow)
        except NotModifiedError:
            return None
        if result is None:
            return self._fallback.read(url, unless_etag=unless_etag)
        facts = _facts(result, url)
        check_whole(url, facts.size)
        return Fetched(self._whole(result, url, facts.size, is_slow), 0, facts)

    def renew(self, url: str) -> None:
        """See Adapter."""
        self._fallback.renew(url)
        bucket = split_s3_url(url)[0]
        self._pools.renew(bucket)
        self._pools.renew(_slow_pool(bucket))

    def close(self) -> None:
        """Drop the connections; they end with the requests that still use them."""
        self._fallback.close()
        self._pools.clear()

    def _get(self, url: str, options: GetOptions, is_slow: bool) -> GetResult | None:  # noqa: FBT001
        """Send one request and return its response, or None where the fallback must send it.

        With `is_slow` only the minimum throughput bounds the body: read it as it arrives.
        """
        bucket, key = split_s3_url(url)
        if not expressible(key) or self._may_redirect(bucket):
            return None
        try:
            result = self._timed(bucket, key, options, is_slow)
        except NotModifiedError:
            if "if_none_match" in options:
                raise
            raise error_of(Answer(304), url) from None
        except (BaseError, OSError, ValueError) as error:
            if NOT_PARTIAL in str(error):
                return None
            raise self._classified(error, url) from None
        # Headers that obstore does not show decide whether a page of HTML is an object.
        return None if is_web_page(result.attributes.get("Content-Type", "")) else result

    def _whole(self, result: GetResult, url: str, size: int, is_slow: bool) -> memoryview:  # noqa: FBT001
        """Return the body of one GET, which must have `size` bytes."""
        pieces = list(self._body(url, result, 1 if is_slow else 0))
        data = pieces[0] if len(pieces) == 1 else memoryview(b"".join(pieces))
        if len(data) != size:
            raise truncated(url, len(data), size)
        return data

    def _is_slow(self, url: str, size: int) -> bool:
        return self._throughput.is_slow(split_s3_url(url)[0], size)

    def _body(self, url: str, result: GetResult, least: int) -> Iterator[memoryview]:
        """Yield the body in pieces of `least` bytes, 0 for all at once."""
        bucket = split_s3_url(url)[0]
        throughput = BodyThroughput(bucket, self._throughput)
        try:
            for piece in result.stream(least) if least else (result.bytes(),):
                yield memoryview(piece)
                if throughput.is_missed(len(piece)):
                    raise too_slow(url, is_outpaced=throughput.was_outpaced)
        except (BaseError, OSError, ValueError) as error:
            answer = answer_in(str(error))
            if answer is TIMED_OUT:
                self._throughput.record_slow(bucket)
                raise too_slow(url) from None
            raise error_of(replace(answer, begun=True), url) from None
        throughput.complete()

    def _may_redirect(self, bucket: str) -> bool:
        """Return whether obstore could follow a redirect to another host or port.

        That cannot be turned off. Without a proxy, requests to another host go to a proxy that
        does not exist, and fail; with a proxy they would succeed. On plain HTTP, another port of
        the same host is not excluded, and a session token must not be sent there.
        """
        endpoint = _endpoint(bucket, self._regions.of(bucket), self._endpoint_url)
        if endpoint not in self._proxies:
            self._proxies[endpoint] = self._network.proxy(endpoint)
        if self._proxies[endpoint]:
            return True
        return endpoint.startswith("http://") and bool(self._credentials.keys().token)

    def _timed(
        self,
        bucket: str,
        key: str,
        options: GetOptions,
        is_slow: bool,  # noqa: FBT001
    ) -> GetResult:
        """Send a request; record how long its response took to begin."""
        store = self._store(bucket, is_slow)
        began_s = time.monotonic()
        result = obstore.get(store, key, options=options)
        self._pools.answered(bucket, time.monotonic() - began_s)
        return result

    def _store(self, bucket: str, is_slow: bool) -> S3Store:  # noqa: FBT001
        """Return the store of `bucket`, or a new one after its region or the keys have changed."""
        region, keys = self._regions.of(bucket), self._credentials.keys()
        endpoint = _endpoint(bucket, region, self._endpoint_url)
        whole_s = WATCHED_TIMEOUT_S if is_slow else WHOLE_TIMEOUT_S

        def make(read_timeout_s: float) -> S3Store:
            certificates = self._network.certificates()
            return S3Store(
                bucket,
                config=_config(bucket, region, self._endpoint_url),
                client_options=_client_options(
                    endpoint, certificates, read_timeout_s=read_timeout_s, whole_s=whole_s
                ),
                retry_config={"max_retries": 0, "retry_timeout": timedelta(0)},
                # Not as settings: obstore would add the AWS_SESSION_TOKEN of the environment.
                credential_provider=lambda: _credential(keys),
            )

        name = _slow_pool(bucket) if is_slow else bucket
        return self._pools.client(name, (region, keys), make)

    def _classified(self, error: Exception, url: str) -> StoreError:
        known = error_of(answer_in(str(error)), url)
        if isinstance(known, WrongRegion):
            return self._regions.corrected(known, split_s3_url(url)[0])
        return known


def expressible(key: str) -> bool:
    """Return whether obstore can express `key`; it strips slashes and refuses some segments."""
    return _NOT_EXPRESSIBLE.search(key) is None


@lru_cache(maxsize=256)
def _endpoint(bucket: str, region: str, endpoint_url: str) -> str:
    """Return the URL that requests for a bucket go to."""
    if endpoint_url:
        return endpoint_url.rstrip("/")
    host = f"s3.{region}.amazonaws.com"
    return f"https://{host}" if "." in bucket else f"https://{bucket}.{host}"


def _config(bucket: str, region: str, endpoint_url: str) -> S3Config:
    """Return all settings of S3Store, because obstore reads missing ones from AWS_* variables."""
    endpoint = _endpoint(bucket, region, endpoint_url)
    config: S3Config = {
        "region": region,
        "endpoint": endpoint,
        "virtual_hosted_style_request": not endpoint_url and "." not in bucket,
        "skip_signature": False,
        "s3_express": False,
    }
    if "AWS_ENDPOINT_URL_S3" in os.environ:
        config["aws_endpoint_url_s3"] = endpoint  # the variable would win over `endpoint`
    return config


def _credential(keys: Keys) -> S3Credential:
    return {
        "access_key_id": keys.access_key,
        "secret_access_key": keys.secret_key,
        "token": keys.token or None,
        "expires_at": None,
    }


def _slow_pool(bucket: str) -> str:
    """Return the name of the pool of the bucket's slow bodies."""
    return f"{bucket} slow"


def _client_options(
    endpoint: str, certificates: bytes, *, read_timeout_s: float, whole_s: float
) -> ClientConfig:
    options: ClientConfig = {
        "allow_http": endpoint.startswith("http://"),
        "connect_timeout": timedelta(seconds=CONNECT_S),
        "read_timeout": timedelta(seconds=read_timeout_s),
        "timeout": timedelta(seconds=whole_s),
        "pool_idle_timeout": timedelta(seconds=IDLE_TIMEOUT_S),
        "pool_max_idle_per_host": str(MAX_IDLE),
        # Requests to any host but the endpoint, as after a redirect, fail here.
        "proxy_url": f"http://{NOWHERE}",
        "proxy_excludes": urlsplit(endpoint).hostname or "",
    }
    if certificates:
        options["root_certificate"] = certificates
    return options


def _ranged(start: int, stop: int, etag: str) -> GetOptions:
    pin = pin_of(etag)
    options: GetOptions = {"range": (start, stop) if start >= 0 else {"suffix": -start}}
    return {**options, "if_match": pin} if pin else options


def _facts(result: GetResult, url: str) -> ObjectFacts:
    meta = result.meta
    etag, mtime_s = etag_of(meta["e_tag"] or ""), int(meta["last_modified"].timestamp())
    if reason := missing_headers(etag=etag, has_time=mtime_s != 0, size=meta["size"]):
        raise foreign(url, reason)
    return ObjectFacts(
        size=meta["size"],
        etag=etag,
        version_id=meta["version"] or "",
        mtime_ns=time_ns(mtime_s),
    )
