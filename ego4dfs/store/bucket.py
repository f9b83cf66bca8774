"""Bucket: the objects below one prefix of an S3 bucket, read and written by short requests."""

from __future__ import annotations

import http.client
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from urllib.parse import quote, urlsplit
from xml.etree import ElementTree as ET

from ego4dfs.errors import AccessDenied, StoreError, StoreUnavailable
from ego4dfs.runtime.deadline import Deadline
from ego4dfs.store import aws_config_files, clock
from ego4dfs.store.credentials import Credentials
from ego4dfs.store.network_settings import NetworkSettings, configured_endpoint
from ego4dfs.store.timed_connection import CONNECT_S, Answer, TimedConnection

MAX_IDLE = 64
IDLE_S = 20.0  # servers close idle connections after about this time
_NO_ANSWER = "check the server, and --near-endpoint"


@dataclass(frozen=True, slots=True)
class Listed:
    """One object of a listing; `key` is below the prefix, the time in seconds since the epoch.

    `age_s` is how long ago it was written, by the server's clock; None if the answer had no time.
    """

    key: str
    size: int
    modified_s: float
    age_s: float | None


@dataclass(frozen=True, slots=True)
class Version:
    """The bytes and the ETag of an object; no bytes if it still has the ETag of the request."""

    data: bytes | None
    etag: str


@dataclass(frozen=True, slots=True)
class Held:
    """An object that is there: its ETag, and how long ago it was written by the server's clock."""

    etag: str
    age_s: float


class Bucket:
    """Objects at `s3://bucket/prefix` of a store of a lab, by requests with time limits.

    Unlike an ObjectStore it writes, retries nothing, and uses no proxy. It makes its connections
    with the standard library, which works in forked children too. Safe from several threads:
    `_lock` guards the idle connections. Calls raise StoreUnavailable if there is no answer in time,
    or a 5xx; AccessDenied for a refusal; StoreError for another answer.
    """

    def __init__(self, url: str, *, endpoint_url: str = "", profile: str = "") -> None:
        """Use the objects below `url`; keys and endpoint are found as for an ObjectStore."""
        self.url = url
        self._bucket, _, self._prefix = url.removeprefix("s3://").partition("/")
        self._profile = profile
        region = aws_config_files.region(profile) or "us-east-1"
        endpoint = configured_endpoint(endpoint_url, profile)
        self._endpoint = urlsplit(endpoint or f"https://s3.{region}.amazonaws.com")
        self._region = region
        self._credentials = Credentials(profile)
        self._idle: list[tuple[float, TimedConnection]] = []
        self._lock = threading.Lock()

    def get(self, key: str, timeout_s: float) -> bytes | None:
        """Return the bytes of an object, None if there is none."""
        found = self.get_version(key, timeout_s)
        return None if found is None else found.data

    def get_version(self, key: str, timeout_s: float, *, unless_etag: str = "") -> Version | None:
        """Return the bytes and ETag of an object, without bytes if it still has `unless_etag`.

        None if there is none.
        """
        condition = {"If-None-Match": f'"{unless_etag}"'} if unless_etag else {}
        answer = self._send("GET", key, timeout_s, headers=condition)
        if answer.status == 304 and unless_etag:
            return Version(None, unless_etag)
        if answer.status == 404 and answer.code != "NoSuchBucket":
            return None
        return Version(self._checked(answer).body, _etag_of(answer))

    def put(self, key: str, data: bytes, timeout_s: float) -> None:
        """Write an object."""
        self._checked(self._send("PUT", key, timeout_s, data))

    def put_if(self, key: str, data: bytes, timeout_s: float, *, etag: str = "") -> bool:
        """Write an object if there is none, or if it has this ETag; return whether it was."""
        condition = {"If-Match": f'"{etag}"'} if etag else {"If-None-Match": "*"}
        answer = self._send("PUT", key, timeout_s, data, headers=condition)
        if answer.status in {409, 412} or (etag and answer.status == 404):
            return False
        self._checked(answer)
        return True

    def held(self, key: str, timeout_s: float) -> Held | None:
        """Return ETag and age of an object, None if there is none."""
        answer = self._send("HEAD", key, timeout_s)
        if answer.status == 404:
            return None
        self._checked(answer)
        now_s, written_s = _time_s(answer, "date"), _time_s(answer, "last-modified")
        if now_s is None or written_s is None:
            raise StoreError(f"{self.url}: an answer without times", hint=_NO_ANSWER)
        return Held(_etag_of(answer), now_s - written_s)

    def delete(self, key: str, timeout_s: float) -> None:
        """Remove an object, if there is one."""
        answer = self._send("DELETE", key, timeout_s)
        if answer.status != 404:
            self._checked(answer)

    def list(self, prefix: str, timeout_s: float) -> Iterator[Listed]:
        """Yield the objects whose keys begin with `prefix`; each request has the time limit."""
        below = f"{self._prefix}/" if self._prefix else ""
        token = ""
        while True:
            query = {"list-type": "2", "prefix": below + prefix}
            if token:
                query["continuation-token"] = token
            answer = self._checked(self._send("GET", None, timeout_s, query=query))
            now_s = _time_s(answer, "date")
            try:
                root = ET.fromstring(answer.body)  # noqa: S314 - of the lab's own store
                yield from (_listed(one, below, now_s) for one in root.iterfind("{*}Contents"))
            except (ET.ParseError, ValueError, AttributeError):
                raise StoreError(f"{self.url}: the listing cannot be parsed") from None
            token = root.findtext("{*}NextContinuationToken") or ""
            if not token:
                return

    def close(self) -> None:
        """Close idle connections."""
        with self._lock:
            idle, self._idle = self._idle, []
        for _, connection in idle:
            connection.close()

    def _send(
        self,
        method: str,
        key: str | None,
        timeout_s: float,
        data: bytes = b"",
        *,
        headers: Mapping[str, str] | None = None,
        query: Mapping[str, str] | None = None,
    ) -> Answer:
        path = f"/{self._bucket}"
        if key is not None:
            path += f"/{self._prefix}/{key}" if self._prefix else f"/{key}"
        target = self._endpoint.path.rstrip("/") + quote(path)
        if query:
            target += "?" + "&".join(f"{k}={quote(v, safe='')}" for k, v in sorted(query.items()))
        deadline = Deadline.after(timeout_s)
        signed = self._signed(method, target, data, headers or {})
        connection = self._connection(deadline)
        try:
            answer = connection.send_request(method, target, data, signed, deadline)
        except (OSError, http.client.HTTPException, ValueError, OverflowError) as error:
            connection.close()
            raise StoreUnavailable(f"{self.url}: {_reason(error)}", hint=_NO_ANSWER) from None
        self._keep(connection)
        return answer

    def _signed(
        self, method: str, target: str, data: bytes, headers: Mapping[str, str]
    ) -> dict[str, str]:
        """Return the headers of a request, with its signature."""
        from botocore.auth import S3SigV4Auth  # noqa: PLC0415
        from botocore.awsrequest import AWSRequest  # noqa: PLC0415
        from botocore.credentials import Credentials as BotoKeys  # noqa: PLC0415

        keys = self._credentials.keys()
        url = f"{self._endpoint.scheme}://{self._endpoint.netloc}{target}"
        request = AWSRequest(method=method, url=url, data=data, headers=dict(headers))
        boto_keys = BotoKeys(keys.access_key, keys.secret_key, keys.token or None)
        S3SigV4Auth(boto_keys, "s3", self._region).add_auth(request)
        return dict(request.headers.items())

    def _connection(self, deadline: Deadline) -> TimedConnection:
        with self._lock:
            while self._idle:
                since_s, connection = self._idle.pop()
                if time.monotonic() - since_s < IDLE_S and connection.is_alive:
                    return connection
                connection.close()
        host, port = self._endpoint.hostname or "", self._endpoint.port
        timeout_s = max(0.001, min(CONNECT_S, deadline.remaining_s))
        if self._endpoint.scheme == "http":
            return TimedConnection(http.client.HTTPConnection(host, port, timeout=timeout_s))
        trust = NetworkSettings(self._profile).trust()
        secure = http.client.HTTPSConnection(host, port, timeout=timeout_s, context=trust)
        return TimedConnection(secure)

    def _keep(self, connection: TimedConnection) -> None:
        """Keep a connection for later requests, and close those that were idle for too long.

        The one that was used last is used first, so those of a burst would be kept for ever.
        """
        now_s, ended = time.monotonic(), []
        with self._lock:
            while self._idle and now_s - self._idle[0][0] >= IDLE_S:
                ended.append(self._idle.pop(0)[1])
            if connection.is_reusable and len(self._idle) < MAX_IDLE:
                self._idle.append((now_s, connection))
            else:
                ended.append(connection)
        for one in ended:
            one.close()

    def _checked(self, answer: Answer) -> Answer:
        if 200 <= answer.status < 300:
            return answer
        text = f"{self.url}: answers {answer.status} {answer.code}".rstrip()
        if answer.status == 429 or answer.status >= 500:
            raise StoreUnavailable(text)
        if answer.code == clock.CODE:
            ahead_s = clock.ahead_in(answer.body[:4096].decode(errors="replace"))
            raise AccessDenied(f"{text}: {clock.skew_text(ahead_s)}", hint=clock.HINT)
        if answer.status in {401, 403}:
            raise AccessDenied(text, hint="check the key of --near-profile")
        is_missing = answer.code == "NoSuchBucket"
        raise StoreError(text, hint="create the bucket first" if is_missing else "")


def _time_s(answer: Answer, header: str) -> float | None:
    try:
        return parsedate_to_datetime(answer.headers[header]).timestamp()
    except (KeyError, ValueError, TypeError, OverflowError):
        return None


def _etag_of(answer: Answer) -> str:
    return answer.headers.get("etag", "").strip('"')


def _reason(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if reason := clock.untimely_certificate(str(error)):
        return reason
    strerror = error.strerror if isinstance(error, OSError) else ""
    return strerror or str(error) or type(error).__name__


def _listed(found: ET.Element, below: str, now_s: float | None) -> Listed:
    key, size = found.findtext("{*}Key") or "", int(found.findtext("{*}Size") or 0)
    written = (found.findtext("{*}LastModified") or "").replace("Z", "+00:00")
    modified_s = datetime.fromisoformat(written).timestamp()
    age_s = None if now_s is None else now_s - modified_s
    return Listed(key.removeprefix(below), size, modified_s, age_s)
