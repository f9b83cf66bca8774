"""TreeFile: one version of a file of the tree that is open, read from its start to its end."""

from __future__ import annotations

from collections.abc import Iterator

from ego4dfs.vfs import VFS

CHUNK_BYTES = 4 << 20


class TreeFile:
    """An open object: its URL, its ETag and its size; `read_bytes` counts what was read of it."""

    def __init__(self, vfs: VFS, path: str) -> None:
        """Open it. Raises NotFound, and the error of an object that cannot be opened."""
        self._vfs = vfs
        self._handle = vfs.open(path)
        origin = vfs.origin(path)
        self.url = origin.url if origin is not None else path
        self.etag = self._handle.etag
        self.size = self._handle.size
        self.read_bytes = 0

    def chunks(self) -> Iterator[bytes]:
        """Yield its bytes. Raises as `VFS.read` does."""
        while self.read_bytes < self.size:
            chunk = self._vfs.read(self._handle, self.read_bytes, CHUNK_BYTES)
            if not chunk:
                return
            self.read_bytes += len(chunk)
            yield chunk
