"""Objects of the near tier: their names, and the form of their content with its checksum.

    ego4dfs-1/chunks/<2 digits>/<object id>-<index>    CHUNK_BYTES of one object version, or less
    ego4dfs-1/facts/<2 digits>/<hash>                  facts of one object: a line of JSON
    ego4dfs-1/tables/<2 digits>/<hash>                 facts of the objects in one directory
    ego4dfs-1/media/<2 digits>/<object id>             media facts of one version of a video
    ego4dfs-1/manifests/<2 digits>/<hash>              facts of a manifest, then its bytes
    ego4dfs-1/leases/<name>                            who fetches what belongs to this name now

The object id is that of the block cache: a hash of source, URL, ETag and size. Each object except a
lease begins with a header: magic "E4N1" · length of the content, 8 bytes · XXH3-128 of the content,
seeded by the name, 16 bytes. So a damaged object, a short one, and one under the name of another
are all recognized.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass

import xxhash

from ego4dfs.blocks import BLOCK_SIZE, ObjectRef
from ego4dfs.store import ObjectFacts

CHUNK_BYTES = BLOCK_SIZE
"""A change of this number is a new format."""
FORMAT = "ego4dfs-1"
LEASES = f"{FORMAT}/leases/"

_HEADER = struct.Struct("<4sQ16s")
_MAGIC = b"E4N1"
HEADER_BYTES = _HEADER.size


class Damaged(ValueError):  # noqa: N818 - a state
    """The content is not what a node writes under this name.

    `is_intact` if it arrived as the store has it, so that it helps to write it again.
    """

    def __init__(self, *, is_intact: bool = True) -> None:
        super().__init__()
        self.is_intact = is_intact


@dataclass(frozen=True, slots=True)
class Chunk:
    """The bytes [start, stop) of one object version, and their name in the near tier."""

    name: str
    index: int
    start: int
    stop: int


def chunk_of(ref: ObjectRef, index: int) -> Chunk:
    """Return chunk `index` of an object; the last one may be shorter than CHUNK_BYTES."""
    start = index * CHUNK_BYTES
    name = f"{FORMAT}/chunks/{ref.object_id[:2]}/{ref.object_id}-{index:x}"
    return Chunk(name, index, start, min(start + CHUNK_BYTES, ref.size))


def chunks_of(ref: ObjectRef, start: int, stop: int) -> Iterator[Chunk]:
    """Yield the chunks that hold [start, stop), in order."""
    for index in range(start // CHUNK_BYTES, -(-min(stop, ref.size) // CHUNK_BYTES)):
        yield chunk_of(ref, index)


def facts_name(source: str, url: str) -> str:
    """Return the name of the facts of the object at `url`."""
    return _named("facts", source, url)


def table_name(source: str, directory: str) -> str:
    """Return the name of the facts of the objects in a directory of the store."""
    return _named("tables", source, directory)


def media_name(ref: ObjectRef) -> str:
    """Return the name of the media facts of a version of a video."""
    return f"{FORMAT}/media/{ref.object_id[:2]}/{ref.object_id}"


def manifest_name(source: str, url: str) -> str:
    """Return the name of the manifest at `url`."""
    return _named("manifests", source, url)


def lease_name(name: str) -> str:
    """Return the name of the lease on another name."""
    return LEASES + name.rpartition("/")[2]


def _named(kind: str, source: str, url: str) -> str:
    digest = hashlib.blake2b(f"{source}\0{url}".encode(), digest_size=16).hexdigest()
    return f"{FORMAT}/{kind}/{digest[:2]}/{digest}"


def encoded(name: str, content: memoryview | bytes) -> bytes:
    """Return content with its header."""
    return b"".join((_HEADER.pack(_MAGIC, len(content), _digest(name, content)), content))


def decoded(name: str, data: bytes) -> memoryview:
    """Return the content of an object of the near tier. Raises Damaged."""
    if len(data) < HEADER_BYTES:
        raise Damaged
    magic, length, digest = _HEADER.unpack_from(data)
    content = memoryview(data)[HEADER_BYTES:]
    if (magic, length, digest) != (_MAGIC, len(content), _digest(name, content)):
        raise Damaged
    return content


def _digest(name: str, content: memoryview | bytes) -> bytes:
    seed = xxhash.xxh3_64_intdigest(name.encode())
    return xxhash.xxh3_128_digest(content, seed=seed)


def facts_line(url: str, facts: ObjectFacts) -> bytes:
    """Return the facts of an object as a line of JSON."""
    known = [url, facts.size, facts.etag, facts.version_id, facts.mtime_ns]
    return json.dumps(known).encode() + b"\n"


def parsed_facts(url: str, content: memoryview) -> tuple[ObjectFacts, memoryview]:
    """Return the facts in the first line of `content`, and what follows it. Raises Damaged."""
    line, separator, _ = bytes(content[:_MAX_LINE]).partition(b"\n")
    try:
        said_url, size, etag, version_id, mtime_ns = json.loads(line)
        facts = ObjectFacts(int(size), str(etag), str(version_id), int(mtime_ns))
    except (ValueError, TypeError, OverflowError):
        raise Damaged from None
    if not separator or said_url != url:
        raise Damaged
    return facts.confirmed(), content[len(line) + 1 :]


_MAX_LINE = 16 << 10  # a URL has at most 1 KiB
