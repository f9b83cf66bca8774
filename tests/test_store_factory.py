"""What a store is opened with, and what opening does not do."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ego4dfs.errors import ConfigError, StoreUnavailable
from ego4dfs.store import ObjectStore
from kit.gateway import Gateway
from kit.tls import behind_tls, certificate

if TYPE_CHECKING:
    from kit.stores import Aws, Bucket


@pytest.fixture
def https(gateway: Gateway, aws: Aws, tmp_path: Path) -> str:
    """The gateway behind TLS, under a certificate that only AWS_CA_BUNDLE trusts."""
    made, key = certificate(tmp_path, begins="20200101000000Z", ends="20900101000000Z")
    aws.variables(AWS_CA_BUNDLE=str(made))
    return behind_tls(gateway, made, key)


@pytest.mark.parametrize("transport", ["obstore", "s3fs"])
def test_aws_ca_bundle_is_trusted(
    licensed: Aws,
    https: str,
    gateway: Gateway,
    bucket: Bucket,
    opened: Callable[..., ObjectStore],
    transport: str,
) -> None:
    """Also for the request for the region, which uses neither library."""
    url = bucket.put("a.bin", b"data")
    gateway.faults.region, gateway.faults.redirect = "eu-south-1", True
    gateway.faults.region_in_body = False
    assert opened(endpoint_url=https, transport=transport).head(url).size == 4


@pytest.mark.parametrize("transport", ["obstore", "s3fs"])
def test_a_certificate_that_is_not_trusted_is_named(
    licensed: Aws,
    https: str,
    no_retry_waits: None,
    opened: Callable[..., ObjectStore],
    monkeypatch: pytest.MonkeyPatch,
    transport: str,
) -> None:
    monkeypatch.delenv("AWS_CA_BUNDLE")
    with pytest.raises(StoreUnavailable, match="certificate is not trusted"):
        opened(endpoint_url=https, transport=transport).head("s3://store-plain/key")


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
        "import sys, threading; sys.modules['tornado'] = None  # tenacity imports it if it can\n"
        "from ego4dfs.metrics import Metrics\n"
        "from ego4dfs.store import open_store\n"
        "open_store(metrics=Metrics(), profile='not-there')\n"
        "heavy = {'botocore', 's3fs', 'fsspec', 'obstore', 'aiobotocore', 'asyncio'}\n"
        "sys.exit(str(heavy & set(sys.modules)) if heavy & set(sys.modules) else "
        "threading.active_count() - 1)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
