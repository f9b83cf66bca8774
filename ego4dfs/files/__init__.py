"""Safe use of local files: atomic writes, private and shared directories, the mount table."""

from ego4dfs.files.atomic import write_atomic
from ego4dfs.files.folder import HIDDEN, Folder, Folders
from ego4dfs.files.private import make_private
from ego4dfs.files.regular import MAX_BYTES, identity, open_regular, read_regular

__all__ = [
    "HIDDEN",
    "MAX_BYTES",
    "Folder",
    "Folders",
    "identity",
    "make_private",
    "open_regular",
    "read_regular",
    "write_atomic",
]
