"""What Ego4D looks like as a filesystem: the only place where tree, facts and reader are joined."""

from ego4dfs.vfs.assemble import TOP_MANIFEST, Parts, check_uids, open_parts, open_vfs
from ego4dfs.vfs.vfs import VFS, DirEntry, Handle, Stat

__all__ = [
    "TOP_MANIFEST",
    "VFS",
    "DirEntry",
    "Handle",
    "Parts",
    "Stat",
    "check_uids",
    "open_parts",
    "open_vfs",
]
