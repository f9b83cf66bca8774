"""Which paths exist, and of what kind they are, as methods of the filesystem: without a HEAD."""

from __future__ import annotations

from typing import Any

from ego4dfs.errors import ManifestError, NotFound, StoreError
from ego4dfs.filesystem.get_many import GetMany
from ego4dfs.filesystem.names_only import NamesOnlyFileSystem
from ego4dfs.vfs.tree import Directory, Node
from ego4dfs.vfs.windows import OpenWindow


class FindNames(GetMany):
    """The methods of Ego4DFileSystem that need names only."""

    def isdir(self, path: str) -> bool:
        """Return whether the path is a directory, without a HEAD request."""
        return isinstance(self._node(path), Directory)

    def isfile(self, path: str) -> bool:
        """Return whether the path is a file, without a HEAD request."""
        node = self._node(path)
        return node is not None and not isinstance(node, Directory)

    def _node(self, path: str) -> Node | OpenWindow | None:
        try:
            return self.vfs.resolve(self._strip_protocol(path))
        except (NotFound, NotADirectoryError, StoreError, ManifestError):
            return None

    def exists(self, path: str, **kwargs: Any) -> bool:
        """Return whether the manifest lists the path, without a HEAD request."""
        del kwargs
        return self._node(path) is not None

    def walk(self, path: str, *args: Any, detail: bool = False, **kwargs: Any) -> Any:
        """Walk as fsspec does; only `detail` costs HEAD requests."""
        walk = super().walk if detail else NamesOnlyFileSystem(self.vfs).walk
        return walk(path, *args, detail=detail, **kwargs)

    def find(self, path: str, *args: Any, **kwargs: Any) -> Any:
        """Find as fsspec does; only `detail` costs HEAD requests."""
        detail = kwargs.get("detail") or args[2:3] == (True,)
        find = super().find if detail else NamesOnlyFileSystem(self.vfs).find
        return find(path, *args, **kwargs)

    def glob(self, path: str, *args: Any, **kwargs: Any) -> Any:
        """Glob as fsspec does; only `detail` costs HEAD requests."""
        glob = super().glob if kwargs.get("detail") else NamesOnlyFileSystem(self.vfs).glob
        return glob(path, *args, **kwargs)
