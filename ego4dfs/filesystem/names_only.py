"""The tree as an fsspec filesystem without sizes, for fsspec's own walk, find and glob.

fsspec walks with `ls(detail=True)`, which costs one HEAD request per object, even if the caller
needs names only.
"""

from __future__ import annotations

from typing import Any

from fsspec.spec import AbstractFileSystem

from ego4dfs.filesystem.options import stripped
from ego4dfs.filesystem.os_errors import as_os_errors
from ego4dfs.vfs import VFS
from ego4dfs.vfs.tree import Directory, join


class NamesOnlyFileSystem(AbstractFileSystem):  # type: ignore[misc]
    """The tree of a VFS without sizes and times: no call makes a HEAD request.

    Safe from several threads.
    """

    protocol = "ego4d"
    root_marker = ""
    cachable = False

    def __init__(self, vfs: VFS) -> None:
        """List what `vfs` lists."""
        super().__init__()
        self._vfs = vfs

    @classmethod
    def _strip_protocol(cls, path: Any) -> Any:
        found = super()._strip_protocol(path)
        return stripped(found) if isinstance(found, str) else found

    def ls(self, path: str, detail: bool = True, **kwargs: Any) -> list[Any]:  # noqa: FBT001, FBT002
        """List a directory, or the one file at the path."""
        del kwargs
        path = self._strip_protocol(path)
        with as_os_errors(path):
            if not isinstance(self._vfs.resolve(path), Directory):
                found = [_entry(path, is_dir=False)]
            else:
                entries = self._vfs.listdir(path)
                found = [_entry(join(path, e.name), is_dir=e.is_dir) for e in entries]
        return found if detail else [entry["name"] for entry in found]

    def info(self, path: str, **kwargs: Any) -> dict[str, Any]:
        """Return the name and the type of a path."""
        del kwargs
        path = self._strip_protocol(path)
        with as_os_errors(path):
            return _entry(path, is_dir=isinstance(self._vfs.resolve(path), Directory))


def _entry(path: str, *, is_dir: bool) -> dict[str, Any]:
    return {"name": path, "type": "directory" if is_dir else "file"}
