"""The world of one run: objects, disk, faults and mounts, all made from one seed."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ego4dfs.cache.blockfile
import ego4dfs.runtime.range_locks
import ego4dfs.session
import ego4dfs.sqlite
import ego4dfs.store.obstore_s3
from ego4dfs.config import Config
from ego4dfs.errors import ObjectChanged
from ego4dfs.metrics import Metrics
from ego4dfs.store import ObjectStore
from ego4dfs.store.breaker import Breaker
from ego4dfs.store.bucket_limits import ConcurrencyLimit, Throttle
from ego4dfs.store.obstore_s3 import ObstoreS3
from ego4dfs.store.rate_limit import RateLimit
from ego4dfs.store.region_cache import Regions
from ego4dfs.store.resilient import Limiters, ResilientStore, Transport
from ego4dfs.vfs import VFS
from simulation.disk import Disk
from simulation.faults import Faults
from simulation.oracle import Oracle
from simulation.s3 import (
    CREDENTIALS,
    ENDPOINT,
    NETWORK,
    FakeObstore,
    Fallback,
    Objects,
    Text,
    Version,
    s3store,
)
from simulation.scheduler import Process, Scheduler

MIB = 1 << 20
SIZES = (0, 1, 4096, 256 << 10, (256 << 10) + 1, MIB - 1, MIB, MIB + 1, 2 * MIB + 7, 3 * MIB)
LARGE = 9 * MIB + 999
DIRECTORY = "v9/clips"
MANIFEST = "s3://ego4d-consortium-sharing/public/v9/clips/manifest.csv"


@dataclass
class Mount:
    """One process that uses the cache directory; `vfs` is None while it does not run."""

    process: Process | None = None
    vfs: VFS | None = None


class World:
    """All that one run is made of: what follows from its seed."""

    def __init__(self, seed: int, directory: Path, kinds: Sequence[str] | None) -> None:
        self.seed = seed
        self.directory = directory
        self.dice = random.Random(f"{seed} world")
        self.scheduler = Scheduler(seed)
        self.objects = Objects()
        self.faults = Faults(random.Random(f"{seed} faults"))
        self.oracle = Oracle(self.scheduler, self.objects, self.faults)
        self.disk = Disk(self.scheduler, self.faults)
        self.cache_bytes = self.dice.choice((2 * MIB, 4 * MIB, 8 * MIB, 64 * MIB))
        self.verify = self.dice.choice(("auto", "auto", "off"))
        self.readers = self.dice.choice((1, 2, 4))
        self.mounts = [Mount() for _ in range(self.dice.choice((1, 1, 2)))]
        self.kinds = kinds
        self.seconds = self.dice.choice((30.0, 300.0, 900.0, 3000.0))
        steps = self.dice.choice((30, 60, 120))
        self.think_s = self.seconds * self.readers * len(self.mounts) / steps
        self.events = self.dice.choice((6, 20, 60))
        self.files: dict[str, str] = {}
        self.is_ending = False
        self.is_over = False
        self._publish()

    def _publish(self) -> None:
        """Make the objects and their manifest."""
        rows = ["video_uid,type,s3_path"]
        for number in range(self.dice.randrange(4, 14)):
            size = LARGE if self.dice.random() < 0.06 else self.dice.choice(SIZES)
            url = f"s3://ego4d-{self.dice.randrange(2)}/clips/{number:02d}.mp4"
            kind = self.dice.choice(("md5",) * 5 + ("parts", "weak", "opaque"))
            self.objects.versions[url] = [Version(self._start(), size, kind, 0.0)]
            self.files[f"{DIRECTORY}/{number:02d}.mp4"] = url
            rows.append(f"{number:02d},file,{url}")
        self.objects.versions[MANIFEST] = [Text("\n".join([*rows, ""]).encode())]

    def _start(self) -> int:
        return self.dice.randrange(64) * 65_537

    def replace(self, url: str) -> None:
        """Replace an object by another one, now."""
        old = self.objects.current(url)
        size = self.dice.choice((old.size, self.dice.choice(SIZES)))
        version = Version(self._start(), size, old.kind, self.scheduler.now_s)
        if self.objects.find(url, version.etag) is None:
            self.objects.versions[url].append(version)
        self.faults.note(ObjectChanged, url, self.scheduler.now_s)

    def open_store(self, *, metrics: Metrics, **_: Any) -> ObjectStore:
        """Open the store of one process, in place of the factory of stores."""

        def make() -> Transport:
            regions = Regions(ENDPOINT, lambda: "", metrics, NETWORK)
            return Transport(
                adapter=ObstoreS3(ENDPOINT, CREDENTIALS, regions, NETWORK, Fallback()),
                credentials=CREDENTIALS,
                breaker=Breaker(ENDPOINT, lambda: self.scheduler.now_s),
                limiters=Limiters(
                    ConcurrencyLimit(128),
                    Throttle(metrics, lambda: self.scheduler.now_s),
                    RateLimit(0),
                    RateLimit(0),
                ),
            )

        return ResilientStore(ENDPOINT, metrics, make)

    def replacements(self) -> dict[Any, dict[str, Any]]:
        """Return the names to replace in modules of ego4dfs, beside those of the clock."""
        store = FakeObstore(self.scheduler, self.objects, self.faults)
        return {
            ego4dfs.session: {"open_store": self.open_store},
            ego4dfs.store.obstore_s3: {"obstore": store, "S3Store": s3store},
            ego4dfs.sqlite: {"sqlite3": self.disk.sqlite_module()},
            ego4dfs.cache.blockfile: {"os": self.disk.os_module()},
            ego4dfs.runtime.range_locks: {"os": self.disk.lock_os_module()},
        }

    def config(self) -> Config:
        return Config(
            version="v9",
            datasets=("clips",),
            metadata=False,
            cache_dir=self.directory,
            cache_max_bytes=self.cache_bytes,
            verify=self.verify,
        )
