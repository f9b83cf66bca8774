"""Factory: from settings to a store. No request is made and no file read before the first use."""

from __future__ import annotations

import importlib.util
import os
import sys
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from ego4dfs.config import Emulation
from ego4dfs.errors import ConfigError
from ego4dfs.metrics import Metrics
from ego4dfs.store import aws_config_files
from ego4dfs.store.breaker import Breaker
from ego4dfs.store.bucket_limits import ConcurrencyLimit, Throttle
from ego4dfs.store.credentials import Credentials
from ego4dfs.store.emulated_network import EmulatedNetwork
from ego4dfs.store.fsspec_mirror import FsspecMirror
from ego4dfs.store.local_mirror import LocalMirror
from ego4dfs.store.network_settings import NetworkSettings, configured_endpoint
from ego4dfs.store.protocol import Adapter, ObjectStore
from ego4dfs.store.rate_limit import RateLimit
from ego4dfs.store.region_cache import Regions
from ego4dfs.store.resilient import Limiters, ResilientStore, Transport
from ego4dfs.store.timeout_adapter import TimeoutAdapter
from ego4dfs.text import is_http_url, masked


@dataclass(frozen=True, slots=True)
class StoreLimits:
    """Limits of one process: requests at a time of a bucket; bytes and requests per second.

    0 per second means no limit.
    """

    concurrency: int = 128
    bytes_per_s: float = 0
    requests_per_s: float = 0


NO_LIMITS = StoreLimits()
TRANSPORTS = ("auto", "obstore", "s3fs")
_AWS = "s3.amazonaws.com"
_inherited: set[str] = set()
"""Has `obstore` in a forked child whose parent had imported it, and may have used it: its threads
are in the parent, and its calls would hang."""
os.register_at_fork(after_in_child=lambda: _inherited.update({"obstore"} & sys.modules.keys()))


def open_store(
    *,
    source: str = "",
    endpoint_url: str = "",
    profile: str = "",
    transport: str = "auto",
    emulation: Emulation | None = None,
    limits: StoreLimits = NO_LIMITS,
    metrics: Metrics,
) -> ObjectStore:
    """Return the store that objects are fetched from.

    That is S3 at `endpoint_url` (else the one of the environment or the profile, else AWS), or
    with `source` a mirror at any fsspec URL or path, laid out `<source>/<bucket>/<key>`. Keys
    come from `profile`, or from the AWS credential chain when none is named. `emulation` makes
    the store slower and less reliable. `limits` are those of this process. No request is made and
    no thread started here. Raises ConfigError for a transport that does not exist or is not
    installed.
    """
    _check(transport)

    def made() -> Limiters:
        return Limiters(
            ConcurrencyLimit(limits.concurrency),
            Throttle(metrics),
            RateLimit(limits.bytes_per_s),
            RateLimit(limits.requests_per_s),
        )

    if source:
        network = NetworkSettings(profile)
        return ResilientStore(
            _mirror(source, network).source,
            metrics,
            lambda: _emulated(_unsigned(_mirror(source, network), made()), emulation),
        )
    endpoint = _checked(configured_endpoint(endpoint_url, profile))
    return ResilientStore(
        masked(endpoint) or _AWS,
        metrics,
        lambda: _emulated(_s3(endpoint, profile, transport, metrics, made()), emulation),
    )


@cache
def expect_workers() -> None:
    """Let each fork of this process first import what its child uses in place of obstore.

    That takes half a second in one process, in place of half a second in each worker.
    """
    import concurrent.futures.thread  # noqa: F401, PLC0415 - it has hooks of its own for each fork

    os.register_at_fork(before=_import_for_workers)


def _import_for_workers() -> None:
    if "obstore" not in sys.modules:
        return
    with suppress(Exception):  # a worker reports it, if it makes a request
        from ego4dfs.store.s3fs_session import import_library  # noqa: PLC0415

        import_library()


def _check(transport: str) -> None:
    if transport not in TRANSPORTS:
        raise ConfigError(f"transport {transport!r}: use one of {', '.join(TRANSPORTS)}")
    if transport != "auto" and importlib.util.find_spec(transport) is None:
        raise ConfigError(
            f"transport {transport!r} is not installed", hint=f"pip install {transport}"
        )


def _checked(endpoint: str) -> str:
    if not endpoint or is_http_url(endpoint):
        return endpoint.rstrip("/")
    raise ConfigError(
        f"endpoint {endpoint!r} is not a URL", hint="write it like http://127.0.0.1:8333"
    )


def _s3(
    endpoint: str,
    profile: str,
    transport: str,
    metrics: Metrics,
    limiters: Limiters,
) -> Transport:
    credentials, network = Credentials(profile), NetworkSettings(profile)
    regions = Regions(endpoint, lambda: aws_config_files.region(profile), metrics, network)
    return Transport(
        adapter=_adapter(transport, endpoint, credentials, regions, network),
        credentials=credentials,
        breaker=Breaker(masked(endpoint) or _AWS, one_host=bool(endpoint)),
        limiters=limiters,
    )


def _emulated(transport: Transport, emulation: Emulation | None) -> Transport:
    if not emulation:
        return transport
    return replace(transport, adapter=EmulatedNetwork(transport.adapter, emulation))


def _mirror(source: str, network: NetworkSettings) -> Adapter:
    """Return the adapter for a mirror; the local one needs no import of fsspec."""
    scheme, separator, rest = source.partition("://")
    if not separator:
        try:
            return LocalMirror(Path(source).expanduser().absolute())
        except RuntimeError as error:
            raise ConfigError(f"source {source}: {error}", hint="write it without ~") from None
    if scheme in {"file", "local"}:
        return LocalMirror(Path(rest).absolute())
    return FsspecMirror(source, network)


def _unsigned(adapter: Adapter, limiters: Limiters) -> Transport:
    return Transport(
        adapter=TimeoutAdapter(adapter),
        credentials=None,
        breaker=Breaker(adapter.source),
        limiters=limiters,
    )


def _adapter(
    transport: str,
    endpoint: str,
    credentials: Credentials,
    regions: Regions,
    network: NetworkSettings,
) -> Adapter:
    from ego4dfs.store.s3fs_s3 import S3fsS3  # noqa: PLC0415

    s3fs = S3fsS3(endpoint, credentials, regions, network)
    if transport == "s3fs" or _inherited:
        return s3fs
    try:
        from ego4dfs.store.obstore_s3 import ObstoreS3  # noqa: PLC0415
    except ImportError:
        return s3fs
    return ObstoreS3(endpoint, credentials, regions, network, s3fs)
