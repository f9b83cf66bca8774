"""The FUSE face: a VFS as a directory of the kernel's, read-only."""

from ego4dfs.mount.binding import (
    Binding,
    check_device,
    check_fusermount,
    find_library,
    fusermount,
    load_binding,
    privilege_lacking,
)
from ego4dfs.mount.daemon import run_in_background
from ego4dfs.mount.memory import settle_memory
from ego4dfs.mount.mountpoint import check_mountpoint, check_unmounted, claim, unmount
from ego4dfs.mount.session import MountOptions, serve
from ego4dfs.mount.status import (
    STATUS_DIRECTORY,
    STATUS_PATH,
    MountDead,
    MountSilent,
    read_status,
    read_statuses,
)
from ego4dfs.mount.table import Mounted, mounted_at, mounts, resolved

__all__ = [
    "STATUS_DIRECTORY",
    "STATUS_PATH",
    "Binding",
    "MountDead",
    "MountOptions",
    "MountSilent",
    "Mounted",
    "check_device",
    "check_fusermount",
    "check_mountpoint",
    "check_unmounted",
    "claim",
    "find_library",
    "fusermount",
    "load_binding",
    "mounted_at",
    "mounts",
    "privilege_lacking",
    "read_status",
    "read_statuses",
    "resolved",
    "run_in_background",
    "serve",
    "settle_memory",
    "unmount",
]
