"""A FUSE filesystem over a directory that lacks features: `passthrough_fs.py SOURCE AT LACKS...`.

It imitates filesystems that are hard to set up in a test: exFAT, CIFS, 9p, gcsfuse, some NFS.
"""

from __future__ import annotations

import contextlib
import errno
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

LACKS = {
    "times": "utime is refused",
    "modes": "chmod and chown are refused",
    "syncs": "fsync is refused, of files and of directories",
    "maps": "files cannot be mapped for sharing",
    "blocks": "statfs reports no blocks",
    "case": "names that differ in case are one",
    "inodes": "each name by which a file is found has an inode number of its own",
    "colons": "names with a colon are refused",
    "large": "no file is larger than a MiB",
}


@contextlib.contextmanager
def limited_filesystem(source: Path, at: Path, *lacks: str) -> Iterator[Path]:
    """Mount a filesystem without the features in `lacks` for the duration of the block."""
    assert set(lacks) <= set(LACKS)
    for path in (source, at):
        path.mkdir()
    process = subprocess.Popen([sys.executable, __file__, str(source), str(at), *lacks])
    try:
        deadline = time.monotonic() + 30
        while not os.path.ismount(at):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.02)
        yield at
    finally:
        subprocess.run(["umount", "-l", str(at)], check=False)
        process.wait(30)


def refuse(number: int) -> None:
    raise OSError(number, os.strerror(number))


def serve(source: str, at: str, lacks: set[str]) -> None:  # noqa: C901 - a class is in it
    from ego4dfs.mount.binding import load_binding

    fuse = load_binding(3).load()

    class Passthrough(fuse.Operations):
        """Forwards every call except those that it lacks."""

        use_ns = True

        def _path(self, path: str) -> str:
            found = source
            for name in filter(None, path.split("/")):
                if "colons" in lacks and ":" in name:
                    refuse(errno.EINVAL)
                known = os.path.join(found, name)
                if "case" in lacks and not os.path.lexists(known) and os.path.isdir(found):
                    same = [n for n in os.listdir(found) if n.casefold() == name.casefold()]
                    known = os.path.join(found, same[0]) if same else known
                found = known
            return found

        def getattr(self, path, fh=None):
            found = os.lstat(self._path(path))
            names = ("mode", "nlink", "uid", "gid", "size", "blocks")
            answer = {f"st_{name}": getattr(found, f"st_{name}") for name in names}
            times = {f"st_{n}time": getattr(found, f"st_{n}time_ns") for n in "amc"}
            return {**answer, **times, "st_ino": found.st_ino}

        def readdir(self, path, fh):
            directory = self._path(path)
            with os.scandir(directory) as found:
                answer = [(entry.name, entry.stat(follow_symlinks=False)) for entry in found]
            answer += [(name, os.stat(directory)) for name in (".", "..")]
            return [(n, {"st_ino": s.st_ino, "st_mode": s.st_mode}, 0) for n, s in answer]

        def mkdir(self, path, mode):
            os.mkdir(self._path(path), mode)

        def rmdir(self, path):
            os.rmdir(self._path(path))

        def unlink(self, path):
            os.unlink(self._path(path))

        def rename(self, old, new, flags=0):
            target = self._path(new)
            os.replace(self._path(old), target)
            if "case" in lacks and os.path.basename(target) != os.path.basename(new):
                os.rename(target, os.path.join(os.path.dirname(target), os.path.basename(new)))

        def link(self, target, name):
            refuse(errno.EPERM)

        def create(self, path, mode, fi=None):
            fd = os.open(self._path(path), os.O_RDWR | os.O_CREAT, mode)
            return self._handle(fd, fi)

        def open(self, path, flags, *rest):
            bits = flags if isinstance(flags, int) else flags.flags
            fd = os.open(self._path(path), bits & ~(os.O_NOFOLLOW | os.O_EXCL | os.O_CREAT))
            return self._handle(fd, None if isinstance(flags, int) else flags)

        def _handle(self, fd, info):
            if info is None or isinstance(info, int):
                return fd
            info.fh = fd
            info.direct_io = "maps" in lacks
            return 0

        def read(self, path, size, offset, fh):
            return os.pread(getattr(fh, "fh", fh), size, offset)

        def write(self, path, data, offset, fh):
            if "large" in lacks and offset + len(data) > 1 << 20:
                refuse(errno.EFBIG)
            return os.pwrite(getattr(fh, "fh", fh), data, offset)

        def truncate(self, path, length, fh=None):
            os.truncate(self._path(path), length)

        def flush(self, path, fh):
            return 0

        def release(self, path, fh):
            os.close(getattr(fh, "fh", fh))

        def fsync(self, path, datasync, fh):
            if "syncs" in lacks:
                refuse(errno.EINVAL)

        def fsyncdir(self, path, datasync, fh):
            if "syncs" in lacks:
                refuse(errno.EINVAL)

        def utimens(self, path, times=None):
            if "times" in lacks:
                refuse(errno.EPERM)
            os.utime(self._path(path), ns=tuple(map(int, times)))

        def chmod(self, path, mode):
            if "modes" in lacks:
                refuse(errno.EPERM)
            os.chmod(self._path(path), mode)

        def chown(self, path, uid, gid):
            refuse(errno.EPERM)

        def statfs(self, path):
            found = os.statvfs(source)
            names = ("bsize", "frsize", "blocks", "bfree", "bavail", "files", "ffree", "namemax")
            answer = {f"f_{name}": getattr(found, f"f_{name}") for name in names}
            if "blocks" in lacks:
                answer.update(f_blocks=0, f_bfree=0, f_bavail=0)
            return answer

    options = {"use_ino": "inodes" not in lacks, "raw_fi": "maps" in lacks}
    quick = {"attr_timeout": 0, "entry_timeout": 0, "negative_timeout": 0}
    fuse.FUSE(Passthrough(), at, foreground=True, nothreads=True, **options, **quick)


if __name__ == "__main__":
    serve(sys.argv[1], sys.argv[2], set(sys.argv[3:]))
