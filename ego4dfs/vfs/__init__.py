"""The virtual filesystem: paths, attributes and reads, from tree, facts, reader and copies."""

from ego4dfs.vfs.batch_reads import BatchReads
from ego4dfs.vfs.connectivity_probe import probe
from ego4dfs.vfs.factory import named_file, open_selected_session, open_vfs
from ego4dfs.vfs.values import DirEntry, Handle, Origin, Stat, Totals
from ego4dfs.vfs.vfs import VFS
from ego4dfs.vfs.video_facts import VIDEO_SUFFIX, import_parser

__all__ = [
    "VFS",
    "VIDEO_SUFFIX",
    "BatchReads",
    "DirEntry",
    "Handle",
    "Origin",
    "Stat",
    "Totals",
    "import_parser",
    "named_file",
    "open_selected_session",
    "open_vfs",
    "probe",
]
