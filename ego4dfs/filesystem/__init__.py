"""The fsspec filesystem: the tree of a VFS as `ego4d://`, read-only."""

from ego4dfs.filesystem.file import Ego4DFile
from ego4dfs.filesystem.filesystem import Ego4DFileSystem

__all__ = ["Ego4DFile", "Ego4DFileSystem"]
