"""The S3 server in the RAM disk, near or with the latency of a distant one."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from benchmarks import BenchError, proxy
from benchmarks.proxy import Counts, Proxy, Shape
from ego4dfs.demo.server import S3Server
from ego4dfs.demo.videos import CONSORTIUM
from ego4dfs.files import mountinfo

RAM_DISK = Path("/dev/shm")  # noqa: S108 - this is a RAM disk
NEEDED_BYTES = 7 << 30  # what all groups publish, and the caches of one row
FAR = Shape(first_byte_s=0.030, bytes_per_s=80_000_000)
SHAPES = ("lan", "wan")

_PREFIX = "ego4dfs-bench-"
_TRUST = ("AWS_CA_BUNDLE", "RCLONE_CA_CERT", "CURL_CA_BUNDLE")
"""For ego4dfs, botocore and aws; for rclone; for s3fs-fuse."""


class Servers:
    """The S3 server (`lan`: as it is, uncounted) and the proxy before it (`wan`: TLS, counted).

    Use it as the context manager `serving`. `wan_missing` says why there is no proxy.
    """

    def __init__(self, directory: Path, s3: S3Server, far: Proxy | None, wan_missing: str) -> None:
        self.directory = directory
        self.s3 = s3
        self.wan_missing = wan_missing
        self._far = far

    def url(self, shape: str) -> str:
        """Return the endpoint of a shape."""
        if shape == "lan":
            return self.s3.endpoint_url
        if self._far is None:
            raise BenchError(self.wan_missing)
        return self._far.url

    def counts(self, shape: str) -> Counts | None:
        """Return the requests and bytes so far, or None without the proxy."""
        return self._far.counts() if shape == "wan" and self._far else None

    @contextmanager
    def stalled(self, share: float) -> Iterator[None]:
        """Let this share of the requests to the distant server wait, during the block."""
        if self._far is None:
            raise BenchError(self.wan_missing)
        with self._far.stalled(share):
            yield

    def environment(self, shape: str, cache: Path, *, may_list: bool = False) -> dict[str, str]:
        """Return all variables of a tool: keys, endpoint and a home with the keys as a profile.

        `cache` is the cache of ego4dfs: a run is cold if it is empty. The keys are those of a
        licensee, who may not list, as at Ego4D. Tools that need listings get an identity that may.
        """
        identity = self.s3.admin if may_list else self.s3.licensee
        home = self.directory / ("home-lister" if may_list else "home")
        keys = self.s3.environment(identity)
        (home / ".aws").mkdir(parents=True, exist_ok=True)
        (home / ".aws/credentials").write_text(
            f"[default]\naws_access_key_id = {identity.access_key}\n"
            f"aws_secret_access_key = {identity.secret_key}\n"
        )
        ours = {"PATH": os.environ["PATH"], "LANG": "C.UTF-8", "HOME": str(home)}
        if "PYTHONPATH" in os.environ:  # another checkout may be what is measured
            ours["PYTHONPATH"] = os.environ["PYTHONPATH"]
        return {
            **ours,
            **keys,
            "AWS_ENDPOINT_URL": self.url(shape),
            "EGO4DFS_CACHE_DIR": str(cache),
            "RCLONE_CONFIG": "/dev/null",
            "RCLONE_S3_PROVIDER": "SeaweedFS",
            "RCLONE_S3_ENV_AUTH": "true",
            "RCLONE_S3_ENDPOINT": self.url(shape),
            **self._trust(shape),
        }

    def certificate(self, shape: str) -> Path | None:
        """Return the file with the certificate to trust, or None where there is no TLS."""
        return self._far.certificate if shape == "wan" and self._far else None

    def _trust(self, shape: str) -> dict[str, str]:
        """Return the variables by which each tool trusts the distant server."""
        certificate = self.certificate(shape)
        return dict.fromkeys(_TRUST, str(certificate)) if certificate else {}

    def empty(self, name: str) -> Path:
        """Return an empty directory of this name in the RAM disk; its old content is removed."""
        path = self.directory / "runs" / name
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir(parents=True)
        return path


@contextmanager
def serving(place: Path = RAM_DISK, *, needed_bytes: int = NEEDED_BYTES) -> Iterator[Servers]:
    """Serve from a new directory in `place`, which is removed at the end.

    BenchError where `place` has less than `needed_bytes` free.
    """
    _check_place(place, needed_bytes)
    _remove_leftovers(place)
    directory = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-", dir=place))
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, directory, ignore_errors=True)
        s3 = stack.enter_context(S3Server(directory / "s3"))
        s3.create_bucket(CONSORTIUM)
        missing = proxy.missing()
        far = None if missing else Proxy(directory / "nginx", s3.endpoint_url, FAR)
        if far:
            stack.enter_context(far)
        yield Servers(directory, s3, far, missing)


def _check_place(place: Path, needed_bytes: int) -> None:
    if not place.is_dir():
        raise BenchError(f"{place} does not exist; name another place with --place")
    free = shutil.disk_usage(place).free
    if free < needed_bytes:
        raise BenchError(
            f"{place} has {free >> 20} MiB free, {needed_bytes >> 20} are needed; "
            "name another place with --place, best a tmpfs"
        )


def _remove_leftovers(place: Path) -> None:
    """Remove what killed runs left behind."""
    for path in place.glob(f"{_PREFIX}*"):
        pid = path.name.removeprefix(_PREFIX).partition("-")[0]
        if pid.isdigit() and not Path("/proc", pid).exists():
            for mountpoint in mountpoints(path):
                unmount(mountpoint, lazy=True)
            shutil.rmtree(path, ignore_errors=True)


def mountpoints(below: Path) -> list[Path]:
    """Return the mountpoints at and below a directory, the innermost first."""
    found = [mount.mountpoint for mount in mountinfo.mounts()]
    return [path for path in reversed(found) if path.is_relative_to(below)]


def unmount(mountpoint: Path, *, lazy: bool = False) -> bool:
    """Unmount and return whether it succeeded; `lazy` detaches a busy mount too."""
    command = ["fusermount3", "-uz" if lazy else "-u", str(mountpoint)]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0
