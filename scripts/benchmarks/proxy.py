"""nginx with Lua and TLS before the S3 server: simulates a distant bucket and counts traffic."""

from __future__ import annotations

import http.client
import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from benchmarks import BenchError
from ego4dfs.demo import ports
from ego4dfs.demo.child_process import end, spawn

_MODULES = Path("/usr/lib/nginx/modules")
_ATTEMPTS = 5
_READY_TIMEOUT_S = 10.0
# A request is counted when its last byte has been sent; the tool may receive it a moment earlier.
_LOG_DELAY_S = 0.05
STALL_S = 5.0
"""What a stalled request waits for its answer."""

# One process: a master that is killed would leave its workers behind. It transfers 1 GB/s, far more
# than the shape allows. Host is passed on unchanged because the signature covers it.
_CONFIG = """
{modules}
daemon off;
master_process off;
pid {directory}/nginx.pid;
error_log {directory}/nginx.log warn;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    lua_shared_dict counts 1m;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    keepalive_requests 1000000;
    upstream s3 {{ server {upstream}; keepalive 256; keepalive_requests 1000000; }}
    server {{
        listen 127.0.0.1:{front} ssl backlog=4096;
        ssl_certificate {directory}/certificate.pem;
        ssl_certificate_key {directory}/key.pem;
        ssl_session_cache shared:sessions:4m;
        client_max_body_size 0;
        limit_rate {rate};
        access_by_lua_block {{
            if {delay} > 0 then ngx.sleep({delay}) end
            if math.random() < (ngx.shared.counts:get("stalled") or 0) then ngx.sleep({stall_s}) end
        }}
        log_by_lua_block {{
            local counts = ngx.shared.counts
            counts:incr("requests", 1, 0)
            counts:incr(ngx.req.get_method(), 1, 0)
            counts:incr("bytes", tonumber(ngx.var.bytes_sent), 0)
        }}
        location / {{
            proxy_pass http://s3;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header Host $http_host;
            proxy_buffers 16 64k;
            proxy_max_temp_file_size 0;
        }}
    }}
    server {{
        listen 127.0.0.1:{counter};
        location /stalled {{ content_by_lua_block {{
            ngx.shared.counts:set("stalled", tonumber(ngx.var.arg_share))
            ngx.say("{{}}")
        }} }}
        location / {{ content_by_lua_block {{
            local counts = ngx.shared.counts
            local function of(name) return counts:get(name) or 0 end
            ngx.say(string.format(
                '{{"requests": %d, "bytes": %d, "HEAD": %d, "GET": %d}}',
                of("requests"), of("bytes"), of("HEAD"), of("GET")))
        }} }}
    }}
}}
"""

_CERTIFICATE = (
    "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30"
    " -subj /CN=ego4dfs-bench -addext subjectAltName=IP:127.0.0.1"
    " -addext basicConstraints=critical,CA:FALSE -keyout key.pem -out certificate.pem"
)
"""rustls accepts no certificate of an authority as that of a server."""


@dataclass(frozen=True, slots=True)
class Shape:
    """Latency and bandwidth of the way to the server; the defaults are those of loopback."""

    first_byte_s: float = 0.0
    bytes_per_s: int = 0  # of one connection; 0 = unlimited


@dataclass(frozen=True, slots=True)
class Counts:
    """The traffic since the proxy started."""

    requests: int = 0
    sent: int = 0  # bytes to the clients, headers included
    heads: int = 0
    gets: int = 0

    def since(self, before: Counts) -> Counts:
        """Return what was added after `before`."""
        return Counts(
            self.requests - before.requests,
            self.sent - before.sent,
            self.heads - before.heads,
            self.gets - before.gets,
        )


def missing() -> str:
    """Return which part of nginx is missing, or an empty text."""
    if _nginx() is None:
        return "nginx is not installed"
    if shutil.which("openssl") is None:
        return "openssl, which makes the certificate of the distant server, is not installed"
    if not (_MODULES / "ngx_http_lua_module.so").exists():
        return "nginx has no Lua module (libnginx-mod-http-lua)"
    return ""


class Proxy:
    """The proxy as a context manager; `url` is the endpoint for clients."""

    def __init__(self, directory: Path, upstream: str, shape: Shape) -> None:
        self._directory = directory
        self._upstream = upstream.removeprefix("http://")
        self._shape = shape
        self._child: subprocess.Popen[bytes] | None = None
        self._ports: dict[str, int] = {}

    @property
    def url(self) -> str:
        """The address to give S3 clients."""
        return f"https://127.0.0.1:{self._ports['front']}"

    @property
    def certificate(self) -> Path:
        """The file with the certificate that clients must trust."""
        return self._directory / "certificate.pem"

    def counts(self) -> Counts:
        """Return the count of all requests that have ended."""
        time.sleep(_LOG_DELAY_S)
        answer = self._control("/")
        return Counts(answer["requests"], answer["bytes"], answer["HEAD"], answer["GET"])

    @contextmanager
    def stalled(self, share: float) -> Iterator[None]:
        """Answer this share of the requests STALL_S later than the others, during the block."""
        self._control(f"/stalled?share={share}")
        try:
            yield
        finally:
            self._control("/stalled?share=0")

    def _control(self, path: str) -> Any:
        connection = http.client.HTTPConnection("127.0.0.1", self._ports["counter"], timeout=10)
        try:
            connection.request("GET", path)
            return json.loads(connection.getresponse().read())
        finally:
            connection.close()

    def __enter__(self) -> Proxy:  # noqa: PYI034 - typing.Self needs 3.11
        """Start; returns when it answers."""
        self._directory.mkdir(parents=True)
        subprocess.run(_CERTIFICATE.split(), cwd=self._directory, check=True, capture_output=True)
        for _ in range(_ATTEMPTS):
            if self._launch():
                return self
        raise BenchError(f"nginx did not start:\n{self._log().read_text()}")

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop."""
        if self._child is not None:
            end(self._child, timeout_s=2.0)

    def _log(self) -> Path:
        return self._directory / "nginx.out"

    def _launch(self) -> bool:
        self._ports = ports.pick(("front", "counter"), {})
        config = self._directory / "nginx.conf"
        config.write_text(self._config())
        nginx = _nginx()
        if nginx is None:
            raise BenchError(missing())
        self._child = spawn(
            [nginx, "-p", str(self._directory), "-c", str(config)],
            directory=self._directory,
            environment={},
            log=self._log(),
        )
        deadline = time.monotonic() + _READY_TIMEOUT_S
        while self._child.poll() is None and time.monotonic() < deadline:
            try:
                self.counts()
            except (OSError, http.client.HTTPException):
                continue
            return True
        end(self._child, timeout_s=2.0)
        return False

    def _config(self) -> str:
        names = ("ndk_http_module.so", "ngx_http_lua_module.so")
        modules = [path for path in (_MODULES / name for name in names) if path.exists()]
        return _CONFIG.format(
            modules="\n".join(f"load_module {path};" for path in modules),
            directory=self._directory,
            upstream=self._upstream,
            rate=self._shape.bytes_per_s,
            delay=self._shape.first_byte_s,
            stall_s=STALL_S,
            **self._ports,
        )


def _nginx() -> str | None:
    # sbin is not on the PATH of every user.
    return shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
