"""The FUSE face: a VFS as a directory of the kernel's, read-only."""

from ego4dfs.mount.binding import (
    Binding,
    check_device,
    check_fusermount,
    find_library,
    load_binding,
)
from ego4dfs.mount.daemon import run_in_background
from ego4dfs.mount.memory import settle_memory
from ego4dfs.mount.mountpoint import (
    Mounted,
    check_mountpoint,
    is_dead,
    mounted_at,
    mounts,
    unmount,
)
from ego4dfs.mount.session import MountOptions, serve
from ego4dfs.mount.status import STATUS_DIRECTORY, STATUS_PATH, read_status

__all__ = [
    "STATUS_DIRECTORY",
    "STATUS_PATH",
    "Binding",
    "MountOptions",
    "Mounted",
    "check_device",
    "check_fusermount",
    "check_mountpoint",
    "find_library",
    "is_dead",
    "load_binding",
    "mounted_at",
    "mounts",
    "read_status",
    "run_in_background",
    "serve",
    "settle_memory",
    "unmount",
]
