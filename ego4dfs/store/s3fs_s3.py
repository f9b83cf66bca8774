"""The S3 adapter over s3fs, used where obstore is not installed or cannot express a key."""

from __future__ import annotations

import asyncio
import gc
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ego4dfs.errors import StoreError
from ego4dfs.runtime.deadline import ATTEMPT_S, CONNECT_S, QUIET_S
from ego4dfs.store.aws_config_files import Keys
from ego4dfs.store.classify import (
    WrongRegion,
    error_of,
    foreign,
    too_slow,
    truncated,
)
from ego4dfs.store.client_pool import ClientPool
from ego4dfs.store.credentials import Credentials
from ego4dfs.store.network_settings import NetworkSettings
from ego4dfs.store.protocol import (
    MAX_WHOLE_BYTES,
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
from ego4dfs.store.s3fs_errors import answer_in, is_timeout
from ego4dfs.store.s3fs_session import new_session
from ego4dfs.store.throughput import BodyThroughput, BucketThroughput

READ_TIMEOUT_S = QUIET_S
MAX_CONNECTIONS = 64
COLLECT_EVERY_S = 10.0
"""How long after a collection the next one frees filesystems that were dropped since."""
RARE_COLLECTIONS = 10_000
"""A process with a larger threshold for garbage collections, such as a mount, has few."""
STREAM_BYTES = 64 << 10, 256 << 10
"""Minimum and maximum of a piece of a stream: each piece wakes two threads, and a killed download
loses one piece of each connection."""
_READ_BYTES = 1 << 20  # at most; what has arrived is returned
_SPAN = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18})", re.ASCII)


class _NotModified(StoreError):  # noqa: N818 - an answer
    """The object is still the known version; an error where no version was given."""


class _Slow(Exception):  # noqa: N818 - a state
    """The body is below the minimum throughput, or far below that of another one."""

    def __init__(self, *, is_outpaced: bool = False) -> None:
        super().__init__()
        self.is_outpaced = is_outpaced


@dataclass(frozen=True, slots=True)
class _Request:
    filesystem: Any
    method: str
    arguments: dict[str, str]
    answered: Callable[[float], None]
    """Called with the seconds until the response began."""
    rates: BucketThroughput

    def throughput(self) -> BodyThroughput:
        """Return the throughput of the body, which begins now."""
        return BodyThroughput(self.arguments["Bucket"], self.rates)


class S3fsS3:
    """Objects of S3 read with the client of s3fs, because its file API cannot pin a version.

    One pool of connections per region. Safe from several threads.
    """

    def __init__(
        self,
        endpoint_url: str,
        credentials: Credentials,
        regions: Regions,
        network: NetworkSettings,
    ) -> None:
        self._endpoint_url = endpoint_url
        self._credentials = credentials
        self._regions = regions
        self._network = network
        self._pools: ClientPool[Any] = ClientPool(lambda: READ_TIMEOUT_S)
        self._throughput = BucketThroughput()
        self._has_dropped = False
        self._collected_s = time.monotonic()

    @property
    def source(self) -> str:
        """The endpoint, or AWS."""
        return self._endpoint_url or "s3.amazonaws.com"

    def head(self, url: str) -> ObjectFacts:
        """See ObjectStore."""
        answer, _ = self._call("head_object", url)
        return _whole_facts(answer, url)

    def read_range(
        self, url: str, start: int, stop: int, *, etag: str = "", size: int | None = None
    ) -> Fetched:
        """See ObjectStore."""
        answer, data = self._call("get_object", url, **_ranged(start, stop, etag))
        facts = _ranged_facts(answer, url, start, stop)
        check_version(url, facts, etag=etag, size=size)
        place = place_of(start, stop, facts.size)
        if len(data) != len(place):
            raise truncated(url, len(data), len(place))
        return Fetched(memoryview(data), place.start, facts)

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
        request = self._request("get_object", url, _ranged(start, stop, etag))
        loop = request.filesystem.loop
        answer = self._await(url, loop, _send, request)
        body, position, throughput = answer["Body"], start, request.throughput()
        try:
            facts = _ranged_facts(answer, url, start, stop)
            check_version(url, facts, etag=etag, size=size)
            while position < stop:
                data = self._await(url, loop, _piece, body, stop - position, throughput)
                if not data:
                    raise truncated(url, position - start, stop - start)
                sink(position, memoryview(data))
                position += len(data)
            throughput.complete()
        finally:
            self._await(url, loop, _end, body)

    def read(self, url: str, *, unless_etag: str = "") -> Fetched | None:
        """See ObjectStore."""
        condition = {"IfNoneMatch": header_of(unless_etag)} if unless_etag else {}
        try:
            answer, data = self._call("get_object", url, **condition)
        except _NotModified:
            if not unless_etag:
                raise
            return None
        facts = _whole_facts(answer, url)
        check_whole(url, facts.size)
        if len(data) != facts.size:
            raise truncated(url, len(data), facts.size)
        return Fetched(memoryview(data), 0, facts)

    def renew(self, url: str) -> None:
        """See Adapter."""
        region = self._regions.peek(split_s3_url(url)[0])
        if region:
            self._pools.renew(region)

    def close(self) -> None:
        """Drop the sessions; s3fs closes those without references."""
        self._pools.clear()

    def _call(self, method: str, url: str, **arguments: str) -> tuple[dict[str, Any], bytearray]:
        """Send one request; return S3's response and its body."""
        request = self._request(method, url, arguments)
        answer: tuple[dict[str, Any], bytearray]
        answer = self._await(url, request.filesystem.loop, _send_and_read, request)
        return answer

    def _request(self, method: str, url: str, arguments: dict[str, str]) -> _Request:
        bucket, key = split_s3_url(url)
        region, keys = self._regions.of(bucket), self._credentials.keys()
        filesystem = self._pools.client(
            region, keys, lambda read_timeout_s: self._new_filesystem(region, keys, read_timeout_s)
        )
        self._free_dropped()
        return _Request(
            filesystem,
            method,
            {**arguments, "Bucket": bucket, "Key": key},
            lambda took_s: self._pools.answered(region, took_s),
            self._throughput,
        )

    def _new_filesystem(self, region: str, keys: Keys, read_timeout_s: float) -> Any:
        self._has_dropped = True  # the first time there is none
        return _new_filesystem(self._endpoint_url, region, keys, read_timeout_s, self._network)

    def _free_dropped(self) -> None:
        """Free the filesystems that were dropped, of several MiB each, with their connections.

        They are in reference cycles. A process that collects often frees them itself.
        """
        now_s = time.monotonic()
        if self._has_dropped and now_s - self._collected_s >= COLLECT_EVERY_S:
            self._has_dropped, self._collected_s = False, now_s
            if not gc.isenabled() or gc.get_threshold()[0] >= RARE_COLLECTIONS:
                gc.collect()

    def _await(self, url: str, loop: Any, coroutine: Any, *arguments: Any) -> Any:
        """Run a coroutine on fsspec's loop; raise its failure as a StoreError."""
        from fsspec.asyn import sync  # noqa: PLC0415

        try:
            return sync(loop, coroutine, *arguments)
        except Exception as error:  # noqa: BLE001 - four libraries raise their own errors
            try:
                raise self._classified(error, url) from None
            finally:
                error.__traceback__ = None  # fsspec's frame and the error refer to each other

    def _classified(self, error: Exception, url: str) -> StoreError:
        if isinstance(error, _Slow):
            return too_slow(url, is_outpaced=error.is_outpaced)
        answer = answer_in(error)
        known = error_of(answer, url)
        if answer.status == 304:
            return _NotModified(str(known), url=url)
        if isinstance(known, WrongRegion):
            return self._regions.corrected(known, split_s3_url(url)[0])
        return known


def _ranged(start: int, stop: int, etag: str) -> dict[str, str]:
    pin = pin_of(etag)
    place = f"{start}-{stop - 1}" if start >= 0 else f"{start}"
    return {"Range": f"bytes={place}", **({"IfMatch": pin} if pin else {})}


def _ranged_facts(answer: dict[str, Any], url: str, start: int, stop: int) -> ObjectFacts:
    """Return the facts in the response to a ranged GET, if it is the requested range."""
    span = _SPAN.fullmatch(answer.get("ContentRange", ""))
    facts = _facts(answer, url, int(span[3]) if span else 0)
    place = place_of(start, stop, facts.size)
    if span is None or int(span[1]) != place.start or int(span[2]) >= place.stop:
        raise StoreError(f"{url}: the store sent another range than requested", url=url)
    length = int(span[2]) + 1 - int(span[1])
    if answer.get("ContentLength", length) != length:
        raise truncated(url, answer["ContentLength"], length)
    return facts


def _whole_facts(answer: dict[str, Any], url: str) -> ObjectFacts:
    """Return the facts in the response to a request without a range."""
    if answer.get("ResponseMetadata", {}).get("HTTPStatusCode") == 206:
        raise foreign(url, "it is the response to a request for a range")
    return _facts(answer, url, answer.get("ContentLength"))


async def _send(request: _Request) -> dict[str, Any]:
    filesystem = request.filesystem
    await filesystem.set_session()
    client = await filesystem.get_s3(request.arguments["Bucket"])
    client.meta.events.register("before-call.s3", _no_redirect, unique_id="ego4dfs")
    began_s = time.monotonic()
    # The time-outs of the client restart with each byte of the response's headers.
    call = getattr(client, request.method)(**request.arguments)
    answer: dict[str, Any] = await asyncio.wait_for(call, ATTEMPT_S)
    request.answered(time.monotonic() - began_s)
    return answer


async def _send_and_read(request: _Request) -> tuple[dict[str, Any], bytearray]:
    answer = await _send(request)
    body = answer.get("Body")
    if body is None:
        return answer, bytearray()
    try:
        whole = "Range" in request.arguments and "ContentRange" not in answer
        if whole or answer.get("ContentLength", 0) > MAX_WHOLE_BYTES:
            return answer, bytearray()
        return answer, await _all(body, request.throughput())
    finally:
        body.close()


async def _arrived(body: Any, most: int) -> bytes:
    """Return the bytes that have arrived; as the headers have, a time-out means a slow body."""
    try:
        data: bytes = await asyncio.wait_for(body.read(most), ATTEMPT_S)
    except Exception as error:
        if is_timeout(error):
            raise _Slow from None
        raise
    return data


async def _all(body: Any, throughput: BodyThroughput) -> bytearray:
    data = bytearray()  # joining pieces would need the memory twice
    while piece := await _arrived(body, _READ_BYTES):
        data += piece
        if throughput.is_missed(len(piece)):
            raise _Slow(is_outpaced=throughput.was_outpaced)
    throughput.complete()
    return data


async def _piece(body: Any, missing: int, throughput: BodyThroughput) -> bytes:
    """Return the next bytes of a body, none at its end; bytes before an error come first."""
    least, most = (min(size, missing) for size in STREAM_BYTES)
    data = bytearray()
    while len(data) < least:
        try:
            more = await _arrived(body, most - len(data))
        except Exception:
            if data:  # the next call raises the error again
                break
            raise
        if not more:
            break
        data += more
        if throughput.is_missed(len(more)):
            raise _Slow(is_outpaced=throughput.was_outpaced)
    return bytes(data)


async def _end(body: Any) -> None:
    body.close()


def _no_redirect(context: dict[str, Any], **_: object) -> None:
    """Stop botocore from following redirects: it repeats one that names no region without end."""
    context.setdefault("s3_redirect", {})["redirected"] = True


def _new_filesystem(
    endpoint: str, region: str, keys: Keys, read_timeout_s: float, network: NetworkSettings
) -> Any:
    from s3fs import S3FileSystem  # noqa: PLC0415

    from ego4dfs.store.no_redirect_session import NoRedirectSession  # noqa: PLC0415

    address = endpoint or f"https://s3.{region}.amazonaws.com"
    proxy = network.proxy(address)
    return S3FileSystem(
        key=keys.access_key,
        secret=keys.secret_key,
        token=keys.token or None,
        endpoint_url=address,
        client_kwargs={"region_name": region, "verify": network.ca_bundle() or True},
        config_kwargs={
            "connect_timeout": CONNECT_S,
            "read_timeout": read_timeout_s,
            "max_pool_connections": MAX_CONNECTIONS,
            "retries": {"total_max_attempts": 1},
            "s3": {"addressing_style": "path" if endpoint else "auto"},
            "proxies": dict.fromkeys(("http", "https"), proxy) if proxy else {},
            "http_session_cls": NoRedirectSession,
        },
        session=new_session(),
        skip_instance_cache=True,  # otherwise a renewed key would use the old key's session
    )


def _facts(answer: dict[str, Any], url: str, size: int | None) -> ObjectFacts:
    """Return the facts in a response; raise ForeignAnswer for one that cannot be the store's."""
    etag, modified = etag_of(answer.get("ETag", "")), answer.get("LastModified")
    headers = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    reason = missing_headers(etag=etag, has_time=modified is not None, size=size)
    is_signed = any(name.startswith("x-amz-") for name in headers)
    if not is_signed and is_web_page(headers.get("content-type", "")):
        reason = reason or "it is a web page"
    if reason:
        raise foreign(url, reason)
    return ObjectFacts(
        size=size or 0,
        etag=etag,
        version_id=answer.get("VersionId", ""),
        mtime_ns=time_ns(modified.timestamp()),  # type: ignore[union-attr]
    )
