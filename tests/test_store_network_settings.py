"""Proxy, certificates and endpoint: one reading of each, for every HTTP library below a store."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ego4dfs.errors import ConfigError, CredentialsRejected, StoreUnavailable
from ego4dfs.metrics import Metrics
from ego4dfs.store import ObjectStore
from ego4dfs.store.credentials import Credentials
from ego4dfs.store.diagnose import key_origin, reach
from ego4dfs.store.network_settings import NetworkSettings, bypasses
from ego4dfs.store.region_cache import Regions
from kit.gateway import Gateway, Reply

if TYPE_CHECKING:
    from kit.stores import Aws, Bucket

pytestmark = pytest.mark.usefixtures("no_retry_waits", "direct")


@pytest.fixture
def direct(monkeypatch: pytest.MonkeyPatch) -> None:
    """No proxy, independent of the machine's settings."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


class _Refusing(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.server.requested.append(self.command)
        self.send_response(407)
        self.send_header("Proxy-Authenticate", 'Basic realm="office"')
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_HEAD = do_CONNECT = do_GET  # noqa: N815

    def log_message(self, *_: object) -> None:
        """Log nothing."""


@pytest.fixture
def proxy() -> Iterator[ThreadingHTTPServer]:
    """A proxy that requires a login."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Refusing)
    server.requested = []
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def address(proxy: ThreadingHTTPServer) -> str:
    return f"http://127.0.0.1:{proxy.server_address[1]}"


@pytest.mark.parametrize(
    ("no_proxy", "host", "is_bypassed"),
    [
        ("example.org", "example.org", True),
        ("example.org", "s3.example.org", True),
        (".example.org", "s3.example.org", True),
        ("*.example.org", "s3.example.org", True),
        ("example.org", "notexample.org", False),
        ("a, EXAMPLE.org", "example.org", True),
        ("127.0.0.1", "127.0.0.1", True),
        ("10.0.0.0/8", "10.1.2.3", True),
        ("10.0.0.0/8", "11.1.2.3", False),
        ("::1", "::1", True),
        ("[::1]", "::1", True),
        ("example.org:443", "example.org", True),
        ("example.org:80", "example.org", False),
        ("*", "anything", True),
        ("", "anything", False),
        (",, ", "anything", False),
    ],
)
def test_no_proxy_is_read_in_one_way(
    no_proxy: str,
    host: str,
    is_bypassed: bool,  # noqa: FBT001
) -> None:
    assert bypasses(host, 443, no_proxy) is is_bypassed


@pytest.mark.fault(
    area="network",
    fault="a proxy that requires a login (407)",
    face="all, doctor",
    sees="the message says so, and where to enter the login",
    deadline="at once",
)
@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("transport", ["obstore", "s3fs"])
def test_a_proxy_that_requires_a_login_is_named(
    licensed: Aws,
    opened: Callable[..., ObjectStore],
    proxy: ThreadingHTTPServer,
    transport: str,
    scheme: str,
) -> None:
    licensed.variables(**{f"{scheme.upper()}_PROXY": address(proxy)})
    endpoint = f"{scheme}://store.invalid"
    store = opened(endpoint_url=endpoint, transport=transport)
    with pytest.raises(StoreUnavailable, match="the proxy requires a login") as caught:
        store.read_range("s3://bucket/key", 0, 1)
    assert "USER:PASSWORD@ before the host in HTTPS_PROXY" in caught.value.hint
    for ask in (
        lambda: reach(endpoint, "bucket"),
        lambda: Regions(endpoint, lambda: "", Metrics()).probe("bucket"),
    ):
        with pytest.raises(StoreUnavailable, match="the proxy requires a login"):
            ask()


@pytest.mark.parametrize("transport", ["obstore", "s3fs"])
def test_every_transport_leaves_out_the_proxy_for_a_network_of_no_proxy(
    licensed: Aws,
    gateway: Gateway,
    bucket: Bucket,
    opened: Callable[..., ObjectStore],
    proxy: ThreadingHTTPServer,
    transport: str,
) -> None:
    url = bucket.put("a.bin", b"data")
    licensed.variables(HTTP_PROXY=address(proxy), NO_PROXY="127.0.0.0/8")
    assert opened(endpoint_url=gateway.url, transport=transport).head(url).size == 4
    assert reach(gateway.url, bucket.name).region == ""
    assert proxy.requested == []


def test_an_invalid_proxy_is_a_configuration_error(
    licensed: Aws, opened: Callable[..., ObjectStore]
) -> None:
    licensed.variables(HTTPS_PROXY="socks5://127.0.0.1:1080")
    with pytest.raises(ConfigError, match="is not an HTTP proxy"):
        opened(endpoint_url="https://store.invalid").head("s3://bucket/key")


@pytest.mark.fault(
    area="network",
    fault="AWS_CA_BUNDLE or ca_bundle names no file, or one without certificates",
    face="all, doctor",
    sees="the message names the file; exit code 2",
    deadline="at once",
)
@pytest.mark.parametrize("text", [None, "not a certificate"])
@pytest.mark.parametrize("transport", ["obstore", "s3fs"])
def test_missing_certificates_are_a_configuration_error(
    licensed: Aws,
    opened: Callable[..., ObjectStore],
    tmp_path: Path,
    transport: str,
    text: str | None,
) -> None:
    path = tmp_path / "ca.pem"
    if text is not None:
        path.write_text(text)
    licensed.variables(AWS_CA_BUNDLE=str(path))
    store = opened(endpoint_url="https://127.0.0.1:9", transport=transport)
    for ask in (
        lambda: store.head("s3://bucket/key"),
        lambda: reach("https://127.0.0.1:9", "bucket"),
        lambda: Regions("https://127.0.0.1:9", lambda: "", Metrics()).probe("bucket"),
    ):
        with pytest.raises(ConfigError, match=r"AWS_CA_BUNDLE .*ca\.pem"):
            ask()


def test_a_damaged_certificate_is_a_configuration_error(aws: Aws, tmp_path: Path) -> None:
    path = tmp_path / "ca.pem"
    path.write_bytes(b"-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n")
    aws.variables(AWS_CA_BUNDLE=str(path))
    with pytest.raises(ConfigError, match=r"AWS_CA_BUNDLE .*ca\.pem"):
        reach("https://127.0.0.1:9", "bucket")


def test_the_profile_s_certificates_are_used_if_the_environment_names_none(
    aws: Aws, tmp_path: Path
) -> None:
    path = tmp_path / "ca.pem"
    path.write_bytes(b"-----BEGIN CERTIFICATE-----")
    aws.config(f"[profile work]\nca_bundle = {path}\n")
    assert NetworkSettings("work").ca_bundle() == str(path)
    assert NetworkSettings().ca_bundle() == ""


@pytest.mark.parametrize(
    "config",
    [
        "[default]\nendpoint_url = {url}\n",
        "[default]\nservices = mine\n[services mine]\ns3 =\n  endpoint_url = {url}\n",
    ],
)
def test_the_profile_s_endpoint_is_used(
    licensed: Aws, gateway: Gateway, bucket: Bucket, opened: Callable[..., ObjectStore], config: str
) -> None:
    licensed.config(config.format(url=gateway.url))
    url = bucket.put("a.bin", b"data")
    store = opened()
    assert (store.head(url).size, store.source) == (4, gateway.url)
    licensed.variables(AWS_IGNORE_CONFIGURED_ENDPOINT_URLS="true")
    assert opened().source == "s3.amazonaws.com"


@pytest.mark.parametrize(
    "reply",
    [
        Reply(200, {"Content-Type": "text/html"}, b"<html>"),
        Reply(302, {"Location": "http://127.0.0.2:9/login"}),
        Reply(511),
    ],
    ids=["page", "redirect", "511"],
)
def test_no_probe_accepts_a_captive_portal_as_the_store(
    aws: Aws, gateway: Gateway, reply: Reply
) -> None:
    gateway.faults.reply = reply
    regions = Regions(gateway.url, lambda: "", Metrics())
    for ask in (lambda: reach(gateway.url, "bucket"), lambda: regions.probe("bucket")):
        with pytest.raises(StoreUnavailable, match="not the store") as caught:
            ask()
        assert "captive portal" in caught.value.hint


@pytest.mark.fault(
    area="keys",
    fault="an AWS SSO login that has expired",
    face="all, doctor",
    sees="the hint is `aws sso login` with the profile",
    deadline="at once",
)
def test_an_expired_sso_login_is_reported_with_how_to_renew_it(aws: Aws) -> None:
    aws.config(
        "[profile work]\nsso_session = ours\nsso_account_id = 1\nsso_role_name = r\n"
        "[sso-session ours]\nsso_region = us-east-1\nsso_start_url = https://x.invalid\n"
    )
    for ask in (Credentials("work").keys, lambda: key_origin("work")):
        with pytest.raises(CredentialsRejected) as caught:
            ask()
        assert "`aws sso login --profile work`" in caught.value.hint
