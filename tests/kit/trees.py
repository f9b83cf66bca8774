"""A mount and `ego4d://` over the S3 server, behind a gateway, for TreeMachine."""

from __future__ import annotations

import errno
import os
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from ego4dfs.demo.server import S3Server
from ego4dfs.filesystem import Ego4DFileSystem
from ego4dfs.testing import DirectoryFace, Fault, FsspecFace, OpeningFace
from ego4dfs.testing.contract_release import manifest_of
from ego4dfs.vfs.objects import OPEN_REFUSAL_VALID_S
from kit.cache import open_cache
from kit.gateway import Faults, Gateway, Reply
from kit.mounts import Mounts
from kit.server import Release, new_version
from kit.stores import Aws

DATASET = "clips"
NAMES = ("a.mp4", "b.pt", "c.json")
REFUSAL = Reply(
    403, {"Content-Type": "application/xml"}, b"<Error><Code>AccessDenied</Code></Error>"
)
REMEMBERED_S = OPEN_REFUSAL_VALID_S + 0.5  # a request may be under way at the end of a fault
S3_FAULTS: dict[Fault, dict[str, object]] = {
    Fault("a connection is reset"): {"reset_every": 1, "times": 1},
    Fault("a body is cut"): {"cut_body_at": 70_000, "times": 1},
    Fault("the store asks to slow down once"): {"slow_down_every": 1, "times": 1},
    Fault("late answers"): {"latency_s": 0.05},
    Fault("refused", frozenset({errno.EACCES}), REMEMBERED_S, hides_size=True): {"reply": REFUSAL},
    Fault("HEAD: too small", falsifies_size=True): {"head_size_off": -137},
    Fault("HEAD: too large", falsifies_size=True): {"head_size_off": 137},
}


@dataclass
class Account:
    """A licensee's home, and two keys that are accepted until they expire."""

    aws: Aws
    server: S3Server
    gateway: Gateway
    number: int = 0

    def expire(self) -> None:
        """Reject the present key."""
        self.gateway.faults.rejected_keys = {self._identity.access_key: "ExpiredToken"}

    def renew(self) -> None:
        """Write the other key to ~/.aws/credentials: it is accepted, and the old one is not."""
        old = self._identity
        self.number += 1
        self.aws.keys(self._identity.access_key, self._identity.secret_key)
        self.gateway.faults.rejected_keys = {old.access_key: "ExpiredToken"}

    @property
    def _identity(self):
        return (self.server.licensee, self.server.admin)[self.number % 2]


class S3Tree:
    """A release of its own on the server, and faults at the gateway. See TreeUnderTest."""

    names = NAMES
    faults = tuple(S3_FAULTS)
    caches_attributes = False
    shares_size = False
    max_remounts = 2

    def __init__(self, account: Account, cache_dir: Path) -> None:
        self._account = account
        self._gateway = account.gateway
        self._cache_dir = cache_dir
        self._release = Release(account.server, new_version())
        self._release.manifest(DATASET, manifest_of({n: self._release.url(n) for n in NAMES}))
        self.directory = f"{self._release.version}/{DATASET}"
        self._closing = ExitStack()
        account.renew()

    def put(self, name: str, data: bytes) -> None:
        self._release.put(name, data)

    def start_fault(self, fault: Fault, name: str) -> None:
        rejected = self._gateway.faults.rejected_keys
        key = f"objects/{name}"
        self._gateway.faults = Faults(**S3_FAULTS[fault], only=key, rejected_keys=rejected)

    def end_faults(self) -> None:
        self._gateway.faults = Faults(rejected_keys=self._gateway.faults.rejected_keys)

    def expire_keys(self) -> None:
        self._account.expire()

    def renew_keys(self) -> None:
        self._account.renew()

    def evict(self) -> bool:
        """Clear the cache as `ego4dfs cache clear` does; blocks may be under way to it."""
        cache = open_cache(self._cache_dir, None)
        cache.admin.clear()
        cache.close()
        return False

    def close(self) -> None:
        self._gateway.faults = Faults()
        self._closing.close()


class FsspecTree(S3Tree):
    """`ego4d://` in this process."""

    def __init__(self, account: Account, cache_dir: Path, transport: str) -> None:
        super().__init__(account, cache_dir)
        self._transport = transport
        self.remount()

    @property
    def face(self) -> OpeningFace:
        return CatFace(self._fs)

    def remount(self) -> None:
        self._closing.close()
        self._fs = Ego4DFileSystem(
            version=self._release.version,
            datasets=[DATASET],
            endpoint_url=self._gateway.url,
            cache_dir=self._cache_dir,
            cache_size="1GiB",
            transport=self._transport,
            skip_instance_cache=True,
        )
        self._closing.callback(self._fs.close)


class CatFace(FsspecFace):
    """Reads by path with `cat_file`, which opens nothing."""

    def read(self, path: str, offset: int, size: int) -> bytes:
        return self._fs.cat_file(path, offset, offset + size)


class MountTree(S3Tree):
    """A real mount in a process of its own."""

    caches_attributes = True
    shares_size = True
    max_remounts = 1

    def __init__(self, account: Account, directory: Path, libfuse: str, transport: str) -> None:
        super().__init__(account, directory / "cache")
        self._mounts = Mounts(directory, libfuse)
        self._closing.callback(self._mounts.clear)
        self._arguments = ("--version", self._release.version, "--datasets", DATASET)
        self._env = {
            **os.environ,
            "AWS_ENDPOINT_URL": self._gateway.url,
            "EGO4DFS_CACHE_DIR": str(self._cache_dir),
            "EGO4DFS_CACHE_SIZE": "1GiB",
            "EGO4DFS_TRANSPORT": transport,
        }
        self._root = self._mounts(*self._arguments, env=self._env)

    @property
    def face(self) -> OpeningFace:
        return DirectoryFace(self._root)

    def remount(self) -> None:
        self._mounts.unmount(self._root)
        self._mounts.again(self._root, *self._arguments, env=self._env)
