"""A fake of obstore and of S3 behind it: objects with versions, and answers that faults change.

The product's adapter for obstore runs on it unchanged. Answers take virtual time, and end with the
time-outs that the adapter has set.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timezone
from functools import lru_cache
from types import SimpleNamespace
from typing import Any

from obstore.exceptions import BaseError, GenericError, NotModifiedError, PreconditionError

from ego4dfs.store.classify import foreign
from ego4dfs.store.protocol import place_of
from simulation.faults import Faults
from simulation.scheduler import EPOCH_S, Scheduler

ENDPOINT = "https://s3.simulated"
_POOL = random.Random(0).randbytes(24 << 20)
_PART = 8 << 20
_TRICKLE_BYTES, _TRICKLE_S = 64, 2.0
_FOR_EVER_S = 1e6


@lru_cache(maxsize=256)
def content(start: int, size: int) -> memoryview:
    """Return bytes that differ with `start`."""
    return memoryview(_POOL)[start : start + size]


@lru_cache(maxsize=256)
def etag_of(start: int, size: int, kind: str) -> str:
    """Return the ETag of `content`: plain, of parts, weak, or one that proves nothing."""
    digest = hashlib.md5(content(start, size), usedforsecurity=False)
    if kind == "parts":
        parts = [content(start + at, min(_PART, size - at)) for at in range(0, size, _PART)]
        whole = b"".join(hashlib.md5(part, usedforsecurity=False).digest() for part in parts)
        return f"{hashlib.md5(whole, usedforsecurity=False).hexdigest()}-{max(1, len(parts))}"
    if kind == "weak":
        return f'W/"{digest.hexdigest()}"'
    return digest.hexdigest() if kind == "md5" else digest.hexdigest()[:31]


@dataclass(frozen=True)
class Version:
    """One version of an object."""

    start: int
    size: int
    kind: str
    at_s: float

    @property
    def etag(self) -> str:
        return etag_of(self.start, self.size, self.kind)

    @property
    def data(self) -> memoryview:
        return content(self.start, self.size)

    @property
    def is_provable(self) -> bool:
        return self.kind == "md5" and self.size > 0


class Text(Version):
    """An object of text: a manifest."""

    def __init__(self, text: bytes) -> None:
        super().__init__(0, len(text), "text", 0.0)
        object.__setattr__(self, "text", text)

    @property
    def etag(self) -> str:
        return hashlib.md5(self.data, usedforsecurity=False).hexdigest()

    @property
    def data(self) -> memoryview:
        return memoryview(self.text)  # type: ignore[attr-defined]


@dataclass
class Objects:
    """All versions of each object, the current one last, and the bytes that were sent wrong."""

    versions: dict[str, list[Version]] = field(default_factory=dict)
    flips: dict[tuple[str, str], dict[int, set[tuple[int, int]]]] = field(default_factory=dict)
    """By URL and ETag: wrong bytes by position, each with the number of the process."""
    wrong_sizes: dict[str, set[int]] = field(default_factory=dict)
    wrong_etags: dict[tuple[str, str], Version] = field(default_factory=dict)

    def current(self, url: str) -> Version:
        return self.versions[url][-1]

    def find(self, url: str, etag: str) -> Version | None:
        """Return the version that was sent with this ETag."""
        found = next((v for v in self.versions[url] if v.etag == etag), None)
        return found or self.wrong_etags.get((url, etag))


@dataclass(frozen=True)
class _Client:
    """What the fake keeps of an S3Store: bucket and time-outs in seconds."""

    bucket: str
    connect_s: float
    quiet_s: float
    whole_s: float


def s3store(bucket: str, *, client_options: dict[str, Any], **_: Any) -> _Client:
    """Make a client, in place of obstore's S3Store."""
    seconds = [client_options[n] for n in ("connect_timeout", "read_timeout", "timeout")]
    return _Client(bucket, *(value.total_seconds() for value in seconds))


class FakeObstore:
    """In place of the module `obstore`."""

    def __init__(self, scheduler: Scheduler, objects: Objects, faults: Faults) -> None:
        self._scheduler = scheduler
        self._objects = objects
        self._faults = faults

    def get(self, client: _Client, key: str, *, options: dict[str, Any]) -> Result:
        """Answer one request, or fail as obstore does."""
        url = f"s3://{client.bucket}/{key}"
        exchange = Exchange(self, client, url, "HEAD" if options.get("head") else "GET")
        self._scheduler.note(f"p{self._process()} {exchange.method} {key} {options.get('range')}")
        self._connect(exchange)
        self._refuse(exchange)
        version = self._version(exchange, options)
        return self._answer(exchange, version, options)

    def _process(self) -> int:
        """Return the number of the process that asks."""
        task = self._scheduler.current
        return task.process.number if task and task.process else 0

    def fault(self, kind: str, url: str) -> Any:
        return self._faults.of(kind, url, self._scheduler.now_s)

    def _connect(self, exchange: Exchange) -> None:
        dice = self._faults.dice
        if self.fault("refused", exchange.url):
            exchange.wait(0.001)
            raise exchange.broken("Connect")
        exchange.wait(dice.choice((0.002, 0.03, 0.03, 0.2)))
        if self.fault("silent", exchange.url):
            exchange.wait(_FOR_EVER_S)

    def _refuse(self, exchange: Exchange) -> None:
        for kind, status, code in (
            ("expired key", 403, "ExpiredToken"),
            ("throttled", 503, "SlowDown"),
            ("server error", 500, "InternalError"),
            ("denied", 403, "AccessDenied"),
            ("missing", 404, "NoSuchKey"),
        ):
            if self.fault(kind, exchange.url):
                raise exchange.status(status, code)

    def _version(self, exchange: Exchange, options: dict[str, Any]) -> Version:
        versions = self._objects.versions.get(exchange.url)
        if versions is None:
            raise exchange.status(404, "NoSuchKey")
        if len(versions) > 1 and self.fault("stale", exchange.url):
            return versions[-2]  # a proxy that ignores the conditions of the request
        version = versions[-1]
        wanted = options.get("if_match")
        if wanted and wanted != f'"{version.etag}"':
            raise PreconditionError(str(exchange.status(412, "PreconditionFailed")))
        unless = options.get("if_none_match")
        if unless and unless.strip('"') == version.etag:
            raise NotModifiedError("not modified")
        return version

    def _answer(self, exchange: Exchange, version: Version, options: dict[str, Any]) -> Result:
        wanted = options.get("range", (0, version.size))
        start, stop = (-wanted["suffix"], 0) if isinstance(wanted, dict) else wanted
        place = place_of(start, stop, version.size)
        if "range" in options and not place:
            raise exchange.status(416, "InvalidRange")
        if "range" in options and self.fault("whole object", exchange.url):
            raise GenericError("Generic S3 error\n\nDebug source:\nsource: NotPartial")
        if "range" in options and self.fault("another range", exchange.url):
            raise GenericError("Generic S3 error: Requested another range")
        size = version.size
        if exchange.method == "HEAD" and (lie := self.fault("wrong size of HEAD", exchange.url)):
            size = max(0, size + int(lie.amount))
            self._objects.wrong_sizes.setdefault(exchange.url, set()).add(size)
        etag = version.etag
        if self.fault("wrong ETag", exchange.url):
            etag = hashlib.md5(etag.encode(), usedforsecurity=False).hexdigest()
            self._objects.wrong_etags[exchange.url, etag] = version
        lacks = bool(self.fault("no headers", exchange.url))
        modified = datetime.fromtimestamp(EPOCH_S + version.at_s, tz=timezone.utc)
        page = self.fault("sign-in page", exchange.url)
        return Result(
            exchange,
            version,
            place,
            meta={
                "e_tag": None if lacks else (etag if etag.startswith("W/") else f'"{etag}"'),
                "last_modified": modified,
                "size": size,
                "version": None,
            },
            content_type="text/html" if page else "video/mp4",
        )

    def body(self, exchange: Exchange, version: Version, place: range) -> memoryview:
        """Return the bytes that are sent, which may be wrong."""
        data = version.data[place.start : place.stop]
        if not data or not self.fault("flipped", exchange.url):
            return data
        at = self._objects.flips.setdefault((exchange.url, version.etag), {})
        wrong = bytearray(data)
        index = self._faults.dice.randrange(len(wrong))
        if isinstance(version, Text):  # no answer twice: equal ones are taken for the bytes
            index = next((i for i in range(len(wrong)) if i not in at), 0)
        wrong[index] ^= 1 << self._faults.dice.randrange(8)
        at.setdefault(place.start + index, set()).add((wrong[index], self._process()))
        return memoryview(wrong)

    def wait(self, seconds: float) -> None:
        self._scheduler.wait(seconds)

    @property
    def now_s(self) -> float:
        return self._scheduler.now_s

    @property
    def dice(self) -> random.Random:
        return self._faults.dice


class Exchange:
    """One request and its answer, on a client with time-outs."""

    def __init__(self, store: FakeObstore, client: _Client, url: str, method: str) -> None:
        self.store = store
        self.url = url
        self.method = method
        self._quiet_s = client.quiet_s
        self._until_s = store.now_s + client.whole_s

    def wait(self, seconds: float) -> None:
        """Wait for the next bytes; fail when a time-out of the client comes first."""
        left_s = min(self._quiet_s, self._until_s - self.store.now_s)
        self.store.wait(max(0.0, min(seconds, left_s)))
        if seconds > left_s:
            raise self.broken("Timeout")

    def broken(self, kind: str) -> BaseError:
        return GenericError(f"Generic S3 error: HTTP error: request failed, kind: {kind}")

    def status(self, status: int, code: str) -> BaseError:
        body = f"<Error><Code>{code}</Code></Error>" if self.method == "GET" else ""
        text = f"Server returned non-2xx status code: {status}: {body}, method: {self.method}"
        return GenericError(f"Generic S3 error: {text}")


class Result:
    """An answer, in place of obstore's GetResult."""

    def __init__(
        self,
        exchange: Exchange,
        version: Version,
        place: range,
        *,
        meta: dict[str, Any],
        content_type: str,
    ) -> None:
        self.meta = meta
        self.range = (place.start, place.stop)
        self.attributes = {"Content-Type": content_type}
        self._exchange = exchange
        self._version = version
        self._place = place

    def bytes(self) -> memoryview:
        pieces = list(self.stream(8 << 20))
        return pieces[0] if len(pieces) == 1 else memoryview(b"".join(pieces))

    def stream(self, least: int) -> Iterator[memoryview]:
        exchange, store = self._exchange, self._exchange.store
        data = store.body(exchange, self._version, self._place)
        url, dice = exchange.url, store.dice
        if store.fault("trickle", url):
            for at in range(0, len(data), _TRICKLE_BYTES):
                exchange.wait(_TRICKLE_S)
                if least <= _TRICKLE_BYTES:
                    yield data[at : at + _TRICKLE_BYTES]
            if least > _TRICKLE_BYTES:
                yield data
            return
        slow = store.fault("slow", url)
        bytes_per_s = slow.amount if slow else 50e6
        cut = dice.random() if store.fault("cut", url) else None
        short = dice.random() if store.fault("short", url) else None
        stalled = dice.random() if store.fault("silent body", url) else None
        end = int(len(data) * min(x if x is not None else 1.0 for x in (cut, short, stalled)))
        step = max(least, min(16 << 10, int(bytes_per_s)))
        at = 0
        while at < end:
            piece = data[at : min(end, at + step)]
            self._receive(len(piece) / bytes_per_s)
            yield piece
            at += len(piece)
        if stalled is not None:
            exchange.wait(_FOR_EVER_S)
        if cut is not None:
            raise exchange.broken("Decode")

    def _receive(self, seconds: float) -> None:
        """Wait for a piece that arrives steadily: no silence is longer than a second."""
        while seconds > 0:
            self._exchange.wait(min(1.0, seconds))
            seconds -= 1.0


class Fallback:
    """In place of the adapter for s3fs: it reports what obstore cannot tell."""

    source = ENDPOINT

    def head(self, url: str) -> Any:
        raise foreign(url, "a page of HTML")

    def read_range(self, url: str, start: int, stop: int, **_: Any) -> Any:
        del start, stop
        raise foreign(url, "a page of HTML, or a range that was ignored")

    def stream_range(self, url: str, *_: Any, **__: Any) -> None:
        raise foreign(url, "a page of HTML, or a range that was ignored")

    def read(self, url: str, *, unless_etag: str = "") -> Any:
        del unless_etag
        raise foreign(url, "a page of HTML")

    def renew(self, url: str) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""


CREDENTIALS = SimpleNamespace(
    keys=lambda: SimpleNamespace(access_key="a", secret_key="b", token=""),  # noqa: S106
    refresh=lambda _generation, *, rejected: False,
    generation=0,
)
NETWORK = SimpleNamespace(proxy=lambda _url: "", certificates=lambda: b"")
