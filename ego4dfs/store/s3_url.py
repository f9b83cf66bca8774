"""Split `s3://bucket/key` URLs, and map them to paths in a mirror."""

from __future__ import annotations

import re
from functools import lru_cache

from ego4dfs.errors import ObjectMissing, StoreError

_BUCKET = re.compile(r"[A-Za-z0-9](\.?[A-Za-z0-9_-])*")


@lru_cache(maxsize=256)  # one request needs it several times
def split_s3_url(url: str) -> tuple[str, str]:
    """Return (bucket, key) of an object's URL; the key is verbatim, without unescaping.

    Raises StoreError for anything that is not the URL of an S3 object. A bucket becomes part of
    a host name, so a bucket with any other characters is refused before a request is made.
    """
    scheme, separator, rest = url.partition("://")
    bucket, _, key = rest.partition("/")
    if scheme.lower() != "s3" or not separator or not key or not _BUCKET.fullmatch(bucket):
        raise StoreError(f"{url!r} is not an s3://bucket/key URL", url=url)
    return bucket, key


def mirror_path(url: str) -> list[str]:
    """Return the path of an object in a mirror, as the bucket and the segments of the key.

    Raises ObjectMissing for a key that no directory can hold, or that would leave the mirror.
    """
    bucket, key = split_s3_url(url)
    segments = [bucket, *key.split("/")]
    if any(segment in {"", ".", ".."} for segment in segments) or "\0" in key:
        raise ObjectMissing(f"{url}: no mirror can hold a key like this", url=url)
    return segments
