"""Network settings: endpoint, proxy, CA bundle; and a HEAD request without redirects.

Four HTTP libraries are used by the store, and each interprets the environment in its own way. The
settings are read here, as AWS's tools read them, and passed to each library explicitly.
"""

from __future__ import annotations

import ipaddress
import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ego4dfs.errors import ConfigError
from ego4dfs.runtime.daemon_threads import CallTimeout, call_with_timeout
from ego4dfs.store import aws_config_files
from ego4dfs.text import is_http_url, masked

if TYPE_CHECKING:
    import ssl
    from email.message import Message
    from urllib.request import BaseHandler

PROXY_LOGIN = "the proxy requires a login (407)"
PROXY_LOGIN_HINT = (
    "put USER:PASSWORD@ before the host in HTTPS_PROXY (in HTTP_PROXY for an http endpoint)"
)
INTERCEPTED_HINT = (
    "something between this machine and the store answers instead (captive portal or proxy?): "
    "log in to the network, or set HTTPS_PROXY or NO_PROXY"
)
_PEM = b"-----BEGIN CERTIFICATE-----"
_PEM_HINT = "name a file of PEM certificates"


@dataclass(frozen=True, slots=True)
class NetworkSettings:
    """The settings of one AWS profile; nothing is read before it is needed."""

    profile: str = ""

    def proxy(self, url: str) -> str:
        """Return the proxy for `url`, or '' for none.

        HTTPS_PROXY or HTTP_PROXY by the scheme of `url`, unless NO_PROXY names its host.
        Raises ConfigError for a proxy that is not an HTTP proxy.
        """
        from urllib.parse import urlsplit  # noqa: PLC0415
        from urllib.request import getproxies_environment  # noqa: PLC0415

        proxies = getproxies_environment()
        parts = urlsplit(url)
        proxy = proxies.get(parts.scheme, "")
        if not proxy or bypasses(parts.hostname or "", parts.port, proxies.get("no", "")):
            return ""
        proxy = proxy if "://" in proxy else f"http://{proxy}"
        if not is_http_url(proxy):
            raise ConfigError(
                f"{parts.scheme.upper()}_PROXY {masked(proxy)!r} is not an HTTP proxy",
                hint="write it like http://proxy.example.org:3128",
            )
        return proxy

    def ca_bundle(self) -> str:
        """Return the file of AWS_CA_BUNDLE, else the profile's ca_bundle, else ''.

        Raises ConfigError when there is no such file, or no certificate in it.
        """
        name, path = "AWS_CA_BUNDLE", os.environ.get("AWS_CA_BUNDLE", "")
        if not path:
            name, path = "ca_bundle", aws_config_files.setting(self.profile, "ca_bundle")
            path = os.path.expanduser(path)  # noqa: PTH111 - '' stays ''
        if path:
            _certificates(name, path)
        return path

    def certificates(self) -> bytes:
        """Return the content of the CA bundle, empty without one."""
        path = self.ca_bundle()
        return _certificates("AWS_CA_BUNDLE", path) if path else b""

    def trust(self) -> ssl.SSLContext:
        """Return the context of TLS connections, with the certificates to trust.

        Raises ConfigError for a CA bundle that cannot be used.
        """
        import ssl  # noqa: PLC0415

        path = self.ca_bundle()
        try:
            return ssl.create_default_context(cafile=path or None)
        except ssl.SSLError as error:
            raise ConfigError(
                f"AWS_CA_BUNDLE {path!r}: {error.reason or error}", hint=_PEM_HINT
            ) from None

    def head(self, url: str, timeout_s: float) -> tuple[int, Message]:
        """Return status and headers of the response to an unsigned HEAD.

        Redirects are not followed. `timeout_s` is how long the connection and each part of the
        response may take; the whole call, with name resolution, may take twice as long.
        Raises OSError or HTTPException when nothing answers.
        """
        try:
            return call_with_timeout(2 * timeout_s, lambda: self._head(url, timeout_s), name="head")
        except CallTimeout:
            raise TimeoutError from None

    def _head(self, url: str, timeout_s: float) -> tuple[int, Message]:
        from urllib import request  # noqa: PLC0415
        from urllib.error import HTTPError  # noqa: PLC0415

        proxy = self.proxy(url)
        opener = request.build_opener(
            request.ProxyHandler(dict.fromkeys(("http", "https"), proxy) if proxy else {}),
            request.HTTPSHandler(context=self.trust()),
            _no_redirects(),
        )
        try:
            with opener.open(request.Request(url, method="HEAD"), timeout=timeout_s) as answer:  # noqa: S310
                return answer.status, answer.headers
        except HTTPError as error:
            return error.code, error.headers


def configured_endpoint(given: str, profile: str) -> str:
    """Return the endpoint that AWS's tools would use; '' is AWS itself.

    That is `given`, else AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL, the s3 part of the profile's
    services, and the profile's endpoint_url.
    """
    if given or _ignores_endpoints(profile):
        return given
    return (
        os.environ.get("AWS_ENDPOINT_URL_S3")
        or os.environ.get("AWS_ENDPOINT_URL")
        or aws_config_files.service_setting(profile, "s3", "endpoint_url")
        or aws_config_files.setting(profile, "endpoint_url")
    )


def _ignores_endpoints(profile: str) -> bool:
    written = os.environ.get("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS") or aws_config_files.setting(
        profile, "ignore_configured_endpoint_urls"
    )
    return written.lower() == "true"


def bypasses(host: str, port: int | None, no_proxy: str) -> bool:
    """Return whether NO_PROXY matches a host: by name, domain, address, network, or `*`."""
    entries = [entry.strip().lower() for entry in re.split(r"[,\s]+", no_proxy)]
    return any(_names(entry, host.lower(), port) for entry in entries if entry)


def _names(entry: str, host: str, port: int | None) -> bool:
    if entry == "*":
        return True
    try:
        return ipaddress.ip_address(host) in ipaddress.ip_network(entry.strip("[]"), strict=False)
    except ValueError:
        pass  # one of them is a name
    name, separator, digits = entry.rpartition(":")
    if separator and digits.isdigit() and not name.endswith(":"):
        if int(digits) != port:
            return False
        entry = name
    name = entry.strip("[]").removeprefix("*").removeprefix(".")
    return host == name or host.endswith(f".{name}")


def _certificates(name: str, path: str) -> bytes:
    from pathlib import Path  # noqa: PLC0415

    try:
        text = Path(path).read_bytes()
    except OSError as error:
        raise ConfigError(f"{name} {path!r}: {error.strerror}", hint=_PEM_HINT) from None
    if _PEM not in text:
        raise ConfigError(f"{name} {path!r}: no certificate in it", hint=_PEM_HINT)
    return text


def _no_redirects() -> BaseHandler:
    from urllib.request import HTTPRedirectHandler  # noqa: PLC0415

    class NoRedirects(HTTPRedirectHandler):
        """Follow no redirect: the response becomes an HTTPError with its headers."""

        def redirect_request(self, *_: object) -> None:
            return None

    return NoRedirects()
