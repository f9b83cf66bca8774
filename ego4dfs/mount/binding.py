"""Selection of a FUSE binding: libfuse 3 with mfusepy, or libfuse 2 with fusepy.

Both bindings load their library when they are imported, from the same environment variable. So
the library is chosen here, before the import, once in a process.
"""

from __future__ import annotations

import ctypes
import importlib
import os
import shutil
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ego4dfs.errors import MountError

_DEVICE = Path("/dev/fuse")
_LIBRARIES = {3: ("libfuse3.so.3", "libfuse3.so.4"), 2: ("libfuse.so.2",)}
_MODULES = {3: "mfusepy", 2: "fuse"}
_PACKAGES = {3: "fuse3", 2: "libfuse2"}
_FUSERMOUNT = {3: "fusermount3", 2: "fusermount"}
_MTAB = Path("/etc/mtab")
_LIBRARY_VARIABLE = "FUSE_LIBRARY_PATH"


@dataclass(frozen=True, slots=True)
class Binding:
    """A libfuse and the Python module that uses it; `version` is 2 or 3."""

    version: int
    library: str

    def load(self) -> Any:
        """Import the module with this library."""
        before = os.environ.get(_LIBRARY_VARIABLE)
        os.environ[_LIBRARY_VARIABLE] = self.library
        try:
            return importlib.import_module(_MODULES[self.version])
        finally:
            if before is None:
                del os.environ[_LIBRARY_VARIABLE]
            else:
                os.environ[_LIBRARY_VARIABLE] = before


def load_binding(version: int | None = None) -> Binding:
    """Return libfuse `version`; by default 3 if it is installed, else 2.

    Raises MountError, with the package to install, if this machine cannot mount: no libfuse,
    no /dev/fuse, or no fusermount for a user who is not root.
    """
    check_device()
    binding = find_library(version)
    check_fusermount(binding.version)
    return binding


def find_library(version: int | None = None) -> Binding:
    """Return libfuse `version`; by default 3 if it is installed, else 2. Raises MountError."""
    wanted = (version,) if version else (3, 2)
    for candidate in wanted:
        for library in _LIBRARIES[candidate]:
            if _is_loadable(library):
                return Binding(candidate, library)
    names = " or ".join(str(candidate) for candidate in wanted)
    packages = " or ".join(f"apt-get install {_PACKAGES[candidate]}" for candidate in wanted)
    raise MountError(f"libfuse {names} is not installed", hint=f"as root: {packages}")


def _is_loadable(library: str) -> bool:
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


def check_device() -> None:
    """Raise MountError unless the kernel has FUSE and lets this user open it."""
    if not _DEVICE.exists():
        raise MountError(
            f"{_DEVICE} does not exist: this kernel or container has no FUSE",
            hint="load it with `modprobe fuse`, or start the container with --device /dev/fuse"
            " --cap-add SYS_ADMIN; without it, use ego4d:// from Python",
        )
    if not os.access(_DEVICE, os.R_OK | os.W_OK):
        raise MountError(
            f"{_DEVICE}: you have no permission to open it",
            hint="ask the administrator for read and write access to it (often: the group fuse)",
        )


def fusermount(version: int) -> str:
    """Return the path of fusermount, which mounts for users other than root, or an empty text."""
    return shutil.which(_FUSERMOUNT[version]) or ""


def check_fusermount(version: int) -> None:
    """Raise MountError if this user needs fusermount, and it is missing or cannot unmount."""
    if os.geteuid() == 0:
        return
    if not fusermount(version):
        package = "fuse3" if version == 3 else "fuse (or fuse3, which has fusermount too)"
        raise MountError(
            f"{_FUSERMOUNT[version]} is not on PATH, and only root can mount without it",
            hint=f"as root: apt-get install {package}",
        )
    if not _MTAB.exists():
        raise MountError(
            f"{_MTAB} does not exist, and {_FUSERMOUNT[version]} cannot unmount without it",
            hint=f"as root: ln -s /proc/self/mounts {_MTAB}",
        )


def missing_privilege(version: int) -> str:
    """Return why fusermount cannot mount for this user and what to do, or an empty text."""
    program = fusermount(version)
    if os.geteuid() == 0 or not program:
        return ""
    if b"\nNoNewPrivs:\t1\n" in Path("/proc/self/status").read_bytes():
        return (
            f"{program} cannot act as root: this container or job forbids new privileges"
            " (no_new_privs); start it without that"
        )
    if not (Path(program).stat().st_mode & stat.S_ISUID or _has_capabilities(program)):
        return f"{program} is not set-uid root; as root: chmod u+s {program}"
    return ""


def _has_capabilities(program: str) -> bool:
    try:
        return bool(os.getxattr(program, "security.capability"))
    except OSError:
        return False
