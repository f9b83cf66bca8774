"""Options of fsspec's HTTP and S3 filesystems for a mirror: proxy, certificates, redirects."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from ego4dfs.store.classify import foreign
from ego4dfs.store.connection_reuse import close_connections_with_unread_bytes
from ego4dfs.store.network_settings import NetworkSettings

CONNECT_TIMEOUT_S = 5.0
READ_TIMEOUT_S = 20.0


def options_for(source: str, network: NetworkSettings) -> dict[str, Any]:
    """Return fsspec's options for a mirror at an `http`, `https` or `s3` URL, else none.

    Proxy and trusted certificates are those of `network`; redirects to another host are refused.
    """
    scheme = source.partition("://")[0]
    if scheme in {"http", "https"}:
        return _http_options(source, network)
    if scheme in {"s3", "s3a"}:
        from ego4dfs.store.no_redirect_session import NoRedirectSession  # noqa: PLC0415

        return {"config_kwargs": {"http_session_cls": NoRedirectSession}}
    return {}


def _http_options(source: str, network: NetworkSettings) -> dict[str, Any]:
    from aiohttp import ClientTimeout, TraceConfig  # noqa: PLC0415

    redirects = TraceConfig()
    redirects.on_request_redirect.append(_refuse_other_host)
    timeout = ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT_S, sock_read=READ_TIMEOUT_S)
    options: dict[str, Any] = {
        "client_kwargs": {"trace_configs": [redirects], "timeout": timeout},
        "get_client": _new_session,
    }
    if source.startswith("https://"):
        options["ssl"] = network.trust()
    if proxy := network.proxy(source):
        options["proxy"] = proxy
    return options


async def _new_session(**options: Any) -> Any:
    from aiohttp import ClientSession  # noqa: PLC0415

    session = ClientSession(**options)
    close_connections_with_unread_bytes(session)
    return session


async def _refuse_other_host(session: object, context: SimpleNamespace, redirect: Any) -> None:
    """Raise ForeignAnswer for a redirect to another host, before a request is sent there."""
    del session, context
    location = redirect.response.headers.get("Location", "")
    target = redirect.url.join(type(redirect.url)(location))
    if target.origin() != redirect.url.origin():
        raise foreign(str(redirect.url.with_user(None)), f"it redirects to {location!r}")
