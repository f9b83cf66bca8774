"""Object stores: S3, or a mirror of it in a directory or at any fsspec URL."""

from ego4dfs.store.breaker import CircuitOpen
from ego4dfs.store.classify import TOO_SLOW, Interrupted, is_past_end
from ego4dfs.store.credentials import check_profile
from ego4dfs.store.factory import TRANSPORTS, StoreLimits, expect_workers, open_store
from ego4dfs.store.protocol import (
    MAX_OBJECT_BYTES,
    MAX_TIME_NS,
    Fetched,
    ObjectFacts,
    ObjectStore,
    Sink,
    SinkEnded,
    WrongSize,
    place_of,
)
from ego4dfs.store.s3_url import split_s3_url

__all__ = [
    "MAX_OBJECT_BYTES",
    "MAX_TIME_NS",
    "TOO_SLOW",
    "TRANSPORTS",
    "CircuitOpen",
    "Fetched",
    "Interrupted",
    "ObjectFacts",
    "ObjectStore",
    "Sink",
    "SinkEnded",
    "StoreLimits",
    "WrongSize",
    "check_profile",
    "expect_workers",
    "is_past_end",
    "open_store",
    "place_of",
    "split_s3_url",
]
