"""Mount namespaces for tests: another /dev, another /etc, another user, nothing left behind.

They need root, as in containers. All mounts in a namespace end with it.
"""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from shutil import which

from ego4dfs.files.mountinfo import mounts
from kit.processes import is_running, wait_until

NOBODY = 65534  # a user with a name on every Linux, which fusermount requires
PACKAGE = Path(__file__).parents[2]

# What `unshare --mount --propagation WHICH` does, in a chroot too: there "/" is no mount whose
# propagation could be changed, but entering the namespace that one is in leads to its real root.
# The mounts of other tests are detached: it would hold them after they were unmounted.
_UNSHARE = """
import ctypes, os, re, sys
NEWNS, RECURSIVE, DETACH = 0x20000, 0x4000, 2
FLAGS = {"slave": 0x80000, "private": 0x40000}
libc = ctypes.CDLL(None, use_errno=True)
def check(result):
    if result:
        sys.exit("no mount namespace: " + os.strerror(ctypes.get_errno()))
check(libc.unshare(NEWNS))
root = os.open("/", os.O_RDONLY)
check(libc.setns(os.open("/proc/self/ns/mnt", os.O_RDONLY), NEWNS))
check(libc.mount(None, b"/", None, FLAGS[sys.argv[1]] | RECURSIVE, None))
for line in list(open("/proc/self/mountinfo", "rb")):
    (_, _, device, _, place, *_), kind = line.split(), line.split(b" - ")[1]
    path = re.sub(rb"\\\\(\\d{3})", lambda code: bytes([int(code[1], 8)]), place)
    if kind.startswith(b"fuse.ego4dfs ") and device.decode() != sys.argv[2]:
        libc.umount2(path, DETACH)
os.fchdir(root)
os.chroot(".")
os.chdir("/")
os.execvp(sys.argv[3], sys.argv[3:])
"""


def unshare(propagation: str, keep: Path | None = None) -> tuple[str, ...]:
    """Return the first words of a command that runs in a mount namespace of its own.

    It has the mounts that there are, but of those of ego4dfs only the one at `keep`.
    """
    device = keep.stat().st_dev if keep else 0
    kept = f"{os.major(device)}:{os.minor(device)}"
    return (sys.executable, "-c", _UNSHARE, propagation, kept)


class Namespace:
    """Commands run as `nobody` (or as root) in a private view of the filesystem."""

    def __init__(self, directory: Path, setup: str = "") -> None:
        """Run the shell lines of `setup` as root in it; `directory` is given to `nobody`."""
        directory.mkdir(parents=True, exist_ok=True)
        os.chown(directory, NOBODY, NOBODY)
        self.directory = directory
        self._stage = Path(tempfile.mkdtemp())
        script = (
            f"set -e\n{_reachable(directory, self._stage)}\n{setup}\necho ready\nexec sleep 600"
        )
        self._keeper = subprocess.Popen(
            [*unshare("slave"), "sh", "-c", script],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        line = self._keeper.stdout.readline()
        assert line == "ready\n", line

    def run(
        self, *command: object, env: Mapping[str, str] | None = None, root: bool = False
    ) -> subprocess.CompletedProcess[str]:
        """Run a command in it, by default as `nobody`; `ego4dfs` is that of this clone."""
        words = [str(word) for word in command]
        if words[0] == "ego4dfs":
            words = [sys.executable, "-m", *words]
        other = [f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
        enter = [which("nsenter"), f"--target={self._keeper.pid}", "--mount", "--root", "--wdns=/"]
        return subprocess.run(
            [*enter, "--", *([] if root else [which("setpriv"), *other]), *words],
            env=dict(os.environ if env is None else env),
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
            stdin=subprocess.DEVNULL,
        )

    def processes(self) -> list[int]:
        """Return the processes that run in it, except its keeper."""
        namespace = os.readlink(f"/proc/{self._keeper.pid}/ns/mnt")
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            try:
                if os.readlink(process / "ns/mnt") == namespace:
                    found.append(int(process.name))
            except OSError:
                continue
        return [pid for pid in found if pid != self._keeper.pid and is_running(pid)]

    def mounted(self) -> list[str]:
        """Return the ego4dfs mounts below its directory; others may be inherited from outside."""
        ours = [mount.mountpoint for mount in mounts(self._keeper.pid) if mount.is_ours]
        return [str(path) for path in ours if path.is_relative_to(self.directory)]

    def close(self) -> None:
        """End everything in it."""
        for pid in self.processes():
            with suppress(ProcessLookupError):  # it has ended meanwhile
                os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not self.processes())
        self._keeper.kill()
        self._keeper.wait()
        self._keeper.stdout.close()
        with suppress(OSError):
            self._stage.rmdir()


def _reachable(directory: Path, stage: Path) -> str:
    """Return shell lines that let `nobody` reach Python, the package and `directory`.

    Each is often below a directory that only root may enter; in the namespace an empty directory
    is mounted over that one. `stage` is an empty directory, which mounts pass through.
    """
    wanted = {Path(sys.base_prefix), Path(sys.prefix), PACKAGE, directory}
    lines = [f"stage={shlex.quote(str(stage))}\nmount -t tmpfs tmpfs $stage && chmod 755 $stage"]
    hidden: dict[Path, list[Path]] = {}
    for path in wanted:
        closed = [above for above in reversed(path.parents) if not above.stat().st_mode & 0o001]
        if closed:
            hidden.setdefault(closed[0], []).append(path)
    inside = [path for paths in hidden.values() for path in paths]
    lines += [
        f"mkdir $stage/{number} && mount --bind {shlex.quote(str(path))} $stage/{number}"
        for number, path in enumerate(inside)
    ]
    for above in hidden:
        lines.append(f"mount -t tmpfs -o mode=755 tmpfs {shlex.quote(str(above))}")
    for number, path in enumerate(inside):
        quoted = shlex.quote(str(path))
        lines.append(f"mkdir -p {quoted} && mount --bind $stage/{number} {quoted}")
    # A minimal system has no /etc/mtab, which fusermount requires.
    lines.append(
        "[ -e /etc/mtab ] || { cp -a /etc $stage/own-etc && mount --bind $stage/own-etc /etc"
        " && ln -s /proc/self/mounts /etc/mtab; }"
    )
    # On most machines users may open /dev/fuse; in containers often only root may.
    lines.append("mknod -m 666 $stage/fuse c 10 229 && mount --bind $stage/fuse /dev/fuse")
    return "\n".join(lines)
