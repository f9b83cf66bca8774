"""What a store is opened with, and what opening does not do."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from ego4dfs.errors import ConfigError
from ego4dfs.store import ObjectStore
from tests.gateway import Gateway

if TYPE_CHECKING:
    from tests.store_fixtures import Aws, Bucket

pytest_plugins = ["tests.store_fixtures"]


def test_variables_for_obstore_alone_change_nothing(
    licensed: Aws, gateway: Gateway, bucket: Bucket, opened: Callable[..., ObjectStore]
) -> None:
    """Some forty variables are read by obstore; what other tools ignore must not reach it."""
    url = bucket.put("a.bin", b"data")
    licensed.variables(
        AWS_SKIP_SIGNATURE="true",
        AWS_BUCKET="other",
        AWS_BUCKET_NAME="other",
        AWS_ENDPOINT_URL_S3="http://127.0.0.1:9",
        AWS_ENDPOINT_URL="http://127.0.0.1:9",
        AWS_ENDPOINT="http://127.0.0.1:9",
        AWS_VIRTUAL_HOSTED_STYLE_REQUEST="true",
        AWS_S3_EXPRESS="true",
        AWS_SESSION_TOKEN="stray",  # noqa: S106 - made up
        AWS_TOKEN="stray",  # noqa: S106 - made up
    )
    assert opened(endpoint_url=gateway.url, transport="obstore").head(url).size == 4


def test_the_environment_s_endpoint_is_used_when_none_is_given(
    licensed: Aws, gateway: Gateway, bucket: Bucket, opened: Callable[..., ObjectStore]
) -> None:
    url = bucket.put("a.bin", b"data")
    licensed.variables(AWS_ENDPOINT_URL=gateway.url)
    store = opened()
    assert (store.head(url).size, store.source) == (4, gateway.url)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"transport": "boto"}, "use one of auto, obstore, s3fs"),
        ({"endpoint_url": "localhost:8333"}, "not a URL"),
        ({"source": "nosuchscheme://x"}, "nosuchscheme"),
    ],
)
def test_settings_that_cannot_work_say_so(
    aws: Aws, opened: Callable[..., ObjectStore], settings: dict[str, str], says: str
) -> None:
    with pytest.raises(ConfigError, match=says):
        opened(**settings).head("s3://a/b")


def test_opening_reads_and_imports_nothing(aws: Aws) -> None:
    code = (
        "import sys, threading; from ego4dfs.metrics import Metrics\n"
        "from ego4dfs.store import open_store\n"
        "open_store(metrics=Metrics(), profile='not-there')\n"
        "heavy = {'botocore', 's3fs', 'fsspec', 'obstore', 'aiobotocore', 'stamina', 'asyncio'}\n"
        "sys.exit(str(heavy & set(sys.modules)) if heavy & set(sys.modules) else "
        "threading.active_count() - 1)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
