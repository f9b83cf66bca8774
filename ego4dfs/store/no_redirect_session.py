"""An HTTP session for aiobotocore that follows no redirects."""

from __future__ import annotations

from typing import Any

from aiobotocore.httpsession import AIOHTTPSession


class NoRedirectSession(AIOHTTPSession):  # type: ignore[misc]
    """Requests go to the host they are for, and nowhere else.

    aiohttp follows redirects to any host, with the session token. S3 redirects to another region;
    the adapter handles that.
    """

    async def _get_session(self, proxy_url: str | None) -> _NoRedirects:
        return _NoRedirects(await super()._get_session(proxy_url))


class _NoRedirects:
    """The one call that aiobotocore makes of an aiohttp session."""

    def __init__(self, session: Any) -> None:
        self._session = session

    def request(self, *arguments: Any, **options: Any) -> Any:
        return self._session.request(*arguments, allow_redirects=False, **options)
