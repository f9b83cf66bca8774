"""`s3://bucket/key` URLs taken apart."""

from __future__ import annotations

import re

from ego4dfs.errors import ObjectMissing, StoreError

_BUCKET = re.compile(r"[A-Za-z0-9](\.?[A-Za-z0-9_-])*")


def split(url: str) -> tuple[str, str]:
    """Return (bucket, key) of an object's URL; the key is verbatim, with no escape undone.

    Raises StoreError for anything that names no object on S3. Buckets become part of host names,
    so one with any but a bucket's characters never gets near a request.
    """
    scheme, separator, rest = url.partition("://")
    bucket, _, key = rest.partition("/")
    if scheme.lower() != "s3" or not separator or not key or not _BUCKET.fullmatch(bucket):
        raise StoreError(f"{url!r} is not an s3://bucket/key URL", url=url)
    return bucket, key


def segments(url: str) -> list[str]:
    """Return the bucket and the key's parts as steps down a mirror.

    Raises ObjectMissing for a key that no directory can hold, or that would lead out of it.
    """
    bucket, key = split(url)
    steps = [bucket, *key.split("/")]
    if any(step in {"", ".", ".."} for step in steps) or "\0" in key:
        raise ObjectMissing(f"{url}: no mirror can hold a key like this", url=url)
    return steps
