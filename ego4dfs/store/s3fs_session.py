"""The session of botocore under s3fs: S3 is described to it once, for forked workers too."""

from __future__ import annotations

from functools import cache
from typing import Any


def import_library() -> None:
    """Import s3fs, and parse botocore's description of S3: together they take half a second."""
    import s3fs  # noqa: F401, PLC0415

    from ego4dfs.store import no_redirect_session  # noqa: F401, PLC0415

    loader = _loader()
    for name in ("endpoints", "partitions", "sdk-default-configuration", "_retry"):
        loader.load_data(name)
    for name in ("service-2", "endpoint-rule-set-1"):
        loader.load_service_model("s3", name, api_version=None)  # as botocore calls it


@cache
def _loader() -> Any:
    """Return botocore's loader of descriptions, which keeps what it has parsed."""
    from botocore.loaders import create_loader  # noqa: PLC0415

    return create_loader()


def new_session() -> Any:
    """Return a session whose clients take the descriptions that are parsed already."""
    from aiobotocore.session import AioSession  # noqa: PLC0415

    session = AioSession()
    session.register_component("data_loader", _loader())
    return session
