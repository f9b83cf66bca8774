"""A process that reads small files by URL and returns their checksums; `workers` has the protocol.

Its job has a `reader` of READERS with its `options`, and the `paths` of the files.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import fsspec
import xxhash
from obstore.fsspec import FsspecStore

from ego4dfs.filesystem import Ego4DFileSystem

Read = Callable[[Sequence[str]], Iterable[tuple[str, bytes]]]
"""Yields paths with the bytes of their files, in any order."""


def main() -> None:
    """Read the files, and answer with the checksum of each."""
    job = json.loads(sys.stdin.readline())
    read = READERS[job["reader"]](**job["options"])
    print("ready", flush=True)
    sys.stdin.readline()
    begin, found, size = time.monotonic(), {}, 0
    for path, data in read(job["paths"]):
        size += len(data)
        found[path] = xxhash.xxh3_128_hexdigest(data)
    answer = {"begin": begin, "end": time.monotonic(), "bytes": size, "checksums": found}
    print(json.dumps(answer), flush=True)
    sys.stdin.read()  # whoever measures this process looks at it before it ends


def _opened(**options: Any) -> Ego4DFileSystem:
    filesystem = Ego4DFileSystem(**options)
    filesystem.exists("")  # opens the tree
    return filesystem


def _read_many(**options: Any) -> Read:
    filesystem = _opened(**options)

    def read(paths: Sequence[str]) -> Iterable[tuple[str, bytes]]:
        wanted = [(path, None, None) for path in paths]
        return ((path, data) for (path, *_), data in filesystem.read_many(wanted, ordered=False))

    return read


def _cat_ranges(filesystem: Any, size: int, at_once: int = sys.maxsize) -> Read:
    """Read by `cat_ranges`, the fastest call of fsspec's filesystems for many files."""

    def read(paths: Sequence[str]) -> Iterable[tuple[str, bytes]]:
        for first in range(0, len(paths), min(at_once, len(paths))):
            some = list(paths[first : first + at_once])
            count = len(some)
            found = filesystem.cat_ranges(some, [0] * count, [size] * count, on_error="raise")
            yield from zip(some, found, strict=True)

    return read


def _open(filesystem: Any) -> Read:
    def read(paths: Sequence[str]) -> Iterable[tuple[str, bytes]]:
        for path in paths:
            with filesystem.open(path) as file:
                yield path, file.read()

    return read


def _blockcache(directory: str) -> Read:
    return _open(fsspec.filesystem("blockcache", target_protocol="s3", cache_storage=directory))


def _obstore(size: int) -> Read:
    store = FsspecStore(
        "s3",
        endpoint=os.environ["AWS_ENDPOINT_URL"],
        region="us-east-1",
        access_key_id=os.environ["AWS_ACCESS_KEY_ID"],
        secret_access_key=os.environ["AWS_SECRET_ACCESS_KEY"],
        client_options={"root_certificate": Path(os.environ["AWS_CA_BUNDLE"]).read_bytes()},
    )
    # It sends all requests of a call at once, and has failed with 5,000.
    return _cat_ranges(store, size, at_once=500)


READERS: dict[str, Callable[..., Read]] = {
    "read_many": _read_many,
    "cat_ranges": lambda size, **options: _cat_ranges(_opened(**options), size),
    "s3fs": lambda size: _cat_ranges(fsspec.filesystem("s3"), size),
    "blockcache": _blockcache,
    "obstore": _obstore,
}


if __name__ == "__main__":
    main()
