"""The path handler of iopath for `ego4d://`: pytorchvideo and detectron2 open files by it."""

from __future__ import annotations

from typing import Any

from iopath.common.file_io import PathHandler

from ego4dfs.integrations.filesystem import SCHEME, current


class Ego4DPathHandler(PathHandler):  # type: ignore[misc]
    """Reads through the filesystem of `ego4dfs.register`. Writes raise OSError (EROFS)."""

    def _get_supported_prefixes(self) -> list[str]:
        return [f"{SCHEME}://"]

    def _open(self, path: str, mode: str = "r", buffering: int = -1, **kwargs: Any) -> Any:
        del buffering
        self._check_kwargs(kwargs)
        return current().open(path, mode)

    def _exists(self, path: str, **kwargs: Any) -> bool:
        self._check_kwargs(kwargs)
        return current().exists(path)

    def _isfile(self, path: str, **kwargs: Any) -> bool:
        self._check_kwargs(kwargs)
        return current().isfile(path)

    def _isdir(self, path: str, **kwargs: Any) -> bool:
        self._check_kwargs(kwargs)
        return current().isdir(path)

    def _ls(self, path: str, **kwargs: Any) -> list[str]:
        self._check_kwargs(kwargs)
        return [name.rpartition("/")[2] for name in current().ls(path, detail=False)]
