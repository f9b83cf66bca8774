"""An HTTP session for aiobotocore that follows no redirects."""

from __future__ import annotations

from typing import Any

from aiobotocore.httpsession import AIOHTTPSession

from ego4dfs.store.connection_reuse import close_connections_with_unread_bytes


class NoRedirectSession(AIOHTTPSession):  # type: ignore[misc]
    """Sends a request to the host in its URL, and to no other.

    aiohttp follows redirects to any host, with the session token. S3 redirects to another region;
    the adapter handles that.
    """

    async def _get_session(self, proxy_url: str | None) -> _NoRedirects:
        session = await super()._get_session(proxy_url)
        close_connections_with_unread_bytes(session)
        return _NoRedirects(session)


class _NoRedirects:
    """The one method of an aiohttp session that aiobotocore calls."""

    def __init__(self, session: Any) -> None:
        self._session = session

    def request(self, *arguments: Any, **options: Any) -> Any:
        return self._session.request(*arguments, allow_redirects=False, **options)
