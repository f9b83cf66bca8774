"""Bucket: the objects below one prefix of an S3 bucket, read and written by short requests."""

from __future__ import annotations

import http.client
import io
import re
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import quote, urlsplit
from xml.etree import ElementTree as ET

from ego4dfs.errors import AccessDenied, StoreError, StoreUnavailable
from ego4dfs.runtime.deadline import Deadline
from ego4dfs.store import aws_config_files
from ego4dfs.store.credentials import Credentials
from ego4dfs.store.network_settings import NetworkSettings, configured_endpoint

CONNECT_S = 1.0
MAX_IDLE = 64
IDLE_S = 20.0  # servers close idle connections after about this time
_CODE = re.compile(rb"<Code>([^<]{1,80})</Code>")


@dataclass(frozen=True, slots=True)
class Listed:
    """One object of a listing; `key` is below the prefix, the time in seconds since the epoch."""

    key: str
    size: int
    modified_s: float


@dataclass(frozen=True, slots=True)
class Held:
    """An object that is there: its ETag, and how long ago it was written by the server's clock."""

    etag: str
    age_s: float


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def code(self) -> str:
        found = _CODE.search(self.body[:4096])
        return found[1].decode("ascii", "replace") if found else ""


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
        self._idle: list[tuple[float, _Connection]] = []
        self._lock = threading.Lock()

    def get(self, key: str, timeout_s: float) -> bytes | None:
        """Return the bytes of an object, None if there is none."""
        answer = self._send("GET", key, timeout_s)
        if answer.status == 404 and answer.code != "NoSuchBucket":
            return None
        return self._checked(answer).body

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
        headers = self._checked(answer).headers
        try:
            now = parsedate_to_datetime(headers["date"])
            age = now - parsedate_to_datetime(headers["last-modified"])
        except (KeyError, ValueError, TypeError):
            raise StoreError(f"{self.url}: an answer without times") from None
        return Held(headers.get("etag", "").strip('"'), age.total_seconds())

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
            try:
                root = ET.fromstring(answer.body)  # noqa: S314 - of the lab's own store
                yield from (_listed(one, below) for one in root.iterfind("{*}Contents"))
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
    ) -> _Answer:
        path = f"/{self._bucket}"
        if key is not None:
            path += f"/{self._prefix}/{key}" if self._prefix else f"/{key}"
        target = self._endpoint.path.rstrip("/") + quote(path)
        if query:
            target += "?" + "&".join(f"{k}={quote(v, safe='')}" for k, v in sorted(query.items()))
        signed = self._signed(method, target, data, headers or {})
        deadline = Deadline.after(timeout_s)
        connection = self._connection(deadline)
        try:
            answer = connection.send_request(method, target, data, signed, deadline)
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            reason = "no answer in time" if isinstance(error, TimeoutError) else str(error)
            raise StoreUnavailable(f"{self.url}: {reason or type(error).__name__}") from None
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

    def _connection(self, deadline: Deadline) -> _Connection:
        with self._lock:
            while self._idle:
                since_s, connection = self._idle.pop()
                if time.monotonic() - since_s < IDLE_S and connection.is_alive:
                    return connection
                connection.close()
        host, port = self._endpoint.hostname or "", self._endpoint.port
        timeout_s = min(CONNECT_S, deadline.remaining_s)
        if self._endpoint.scheme == "http":
            return _Connection(http.client.HTTPConnection(host, port, timeout=timeout_s))
        trust = NetworkSettings(self._profile).trust()
        secure = http.client.HTTPSConnection(host, port, timeout=timeout_s, context=trust)
        return _Connection(secure)

    def _keep(self, connection: _Connection) -> None:
        with self._lock:
            if connection.is_reusable and len(self._idle) < MAX_IDLE:
                self._idle.append((time.monotonic(), connection))
                return
        connection.close()

    def _checked(self, answer: _Answer) -> _Answer:
        if 200 <= answer.status < 300:
            return answer
        text = f"{self.url}: answers {answer.status} {answer.code}".rstrip()
        if answer.status == 429 or answer.status >= 500:
            raise StoreUnavailable(text)
        if answer.status in {401, 403}:
            raise AccessDenied(text)
        raise StoreError(text)


class _Connection:
    """One connection. All of an answer arrives before the deadline, or TimeoutError is raised."""

    def __init__(self, inner: http.client.HTTPConnection) -> None:
        self._inner = inner
        self._deadline = Deadline.after(0.0)
        self.is_reusable = False
        inner.response_class = self._response  # type: ignore[assignment]

    @property
    def is_alive(self) -> bool:
        """Whether the server has not closed it, and has sent nothing that was not requested."""
        sock = self._inner.sock
        try:
            sock.settimeout(0.0)
            sock.recv(1, socket.MSG_PEEK)
        except (BlockingIOError, InterruptedError):
            return True
        except (OSError, AttributeError, ValueError):  # ValueError: TLS has no MSG_PEEK
            return isinstance(self._inner, http.client.HTTPSConnection)
        return False

    def send_request(
        self, method: str, target: str, data: bytes, headers: Mapping[str, str], deadline: Deadline
    ) -> _Answer:
        """Send a request and return the answer. Raises OSError and HTTPException."""
        self._deadline, self.is_reusable = deadline, False
        if self._inner.sock is None:
            self._inner.connect()
        self._inner.sock.settimeout(max(0.001, deadline.remaining_s))
        self._inner.request(method, target, body=data or None, headers=dict(headers))
        response = self._inner.getresponse()
        body = response.read()
        self.is_reusable = not response.will_close
        found = {name.lower(): value for name, value in response.getheaders()}
        return _Answer(response.status, found, body)

    def close(self) -> None:
        self._inner.close()

    def _response(self, sock: Any, *args: Any, **named: Any) -> http.client.HTTPResponse:
        timed: Any = _TimedSocket(sock, self._deadline)
        return http.client.HTTPResponse(timed, *args, **named)


class _TimedSocket(io.RawIOBase):
    """Reads of a socket that end at a deadline, however slowly bytes arrive."""

    def __init__(self, sock: socket.socket, deadline: Deadline) -> None:
        self._sock = sock
        self._deadline = deadline

    def makefile(self, *_: object) -> io.BufferedReader:
        return io.BufferedReader(self, 1 << 16)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        left_s = self._deadline.remaining_s
        if left_s <= 0:
            raise TimeoutError
        self._sock.settimeout(left_s)
        return self._sock.recv_into(buffer)


def _listed(found: ET.Element, below: str) -> Listed:
    from datetime import datetime  # noqa: PLC0415

    key, size = found.findtext("{*}Key") or "", int(found.findtext("{*}Size") or 0)
    written = (found.findtext("{*}LastModified") or "").replace("Z", "+00:00")
    return Listed(key.removeprefix(below), size, datetime.fromisoformat(written).timestamp())
