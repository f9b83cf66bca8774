"""What Ego4D looks like as a filesystem: the only place where tree, facts and reader are joined."""

from ego4dfs.vfs.factory import open_selected_session, open_vfs
from ego4dfs.vfs.probe import probe
from ego4dfs.vfs.values import DirEntry, Handle, Stat
from ego4dfs.vfs.vfs import VFS

__all__ = ["VFS", "DirEntry", "Handle", "Stat", "open_selected_session", "open_vfs", "probe"]
