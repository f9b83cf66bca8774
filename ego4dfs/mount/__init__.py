"""The FUSE mount: a VFS as a read-only directory, mounted, inspected and unmounted."""

from ego4dfs.mount.binding import (
    Binding,
    check_device,
    check_fusermount,
    find_library,
    fusermount,
    load_binding,
    missing_privilege,
)
from ego4dfs.mount.daemon import run_in_background
from ego4dfs.mount.fuse_session import MountOptions, serve
from ego4dfs.mount.log_format import JsonFormatter
from ego4dfs.mount.logfile import RepeatFilter, log_to
from ego4dfs.mount.mountpoint import check_mountpoint, check_unmounted, lock_mountpoint, unmount
from ego4dfs.mount.otlp_settings import otlp_export
from ego4dfs.mount.recorder import Recorder
from ego4dfs.mount.status import (
    STATUS_PATH,
    MountDead,
    MountUnresponsive,
    read_status,
    read_statuses,
)

__all__ = [
    "STATUS_PATH",
    "Binding",
    "JsonFormatter",
    "MountDead",
    "MountOptions",
    "MountUnresponsive",
    "Recorder",
    "RepeatFilter",
    "check_device",
    "check_fusermount",
    "check_mountpoint",
    "check_unmounted",
    "find_library",
    "fusermount",
    "load_binding",
    "lock_mountpoint",
    "log_to",
    "missing_privilege",
    "otlp_export",
    "read_status",
    "read_statuses",
    "run_in_background",
    "serve",
    "unmount",
]
