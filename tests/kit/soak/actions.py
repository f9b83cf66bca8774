"""What a soak run does to its faults, mounts, readers, keys, network and cache while all read."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

from ego4dfs.demo.sigv4_client import Identity
from kit.cli import run_cli
from kit.data import Seeded
from kit.fault_kinds import FLIPPED_BYTES, KINDS
from kit.faulty_mounts import FaultyMounts
from kit.gateway import Faults
from kit.load import Load
from kit.locked_sqlite import locked
from kit.mounts import is_mounted, status
from kit.processes import is_running, wait_until
from kit.soak.files import COPIED, COPIED_DATASETS, COPIED_OBJECTS, READ_DATASETS, SMALL
from kit.soak.fuse_timeout import request_timeout
from kit.soak.network import Network
from kit.soak.readers import ReadingProcess

REQUEST_TIMEOUT_S = 60
ARGUMENTS = ("--version", "v1", "--datasets", *READ_DATASETS)
COPIES = ("--version", "v1", "--datasets", *COPIED_DATASETS)
END_S = 20.0  # for the end of a mount by SIGTERM: 5 s, and what a busy machine adds
PREFETCH_S = 240.0
LOG_CHARACTERS = 4000


class Keys:
    """The keys of the licensee in ~/.aws/credentials: two, of which one is in the file."""

    def __init__(self, home: Path, identities: list[Identity]) -> None:
        self._path = home / ".aws" / "credentials"
        self._path.parent.mkdir(parents=True)
        self._identities = identities
        self._lock = threading.Lock()  # guards the file and the order of the identities
        self.renew()

    def renew(self) -> str:
        """Replace the key in the file by the other one; return the access key that was there."""
        with self._lock:
            self._identities.reverse()
            key, old = self._identities
            new = self._path.with_suffix(".new")
            new.write_text(
                f"[default]\naws_access_key_id = {key.access_key}\n"
                f"aws_secret_access_key = {key.secret_key}\n"
            )
            new.rename(self._path)
            return old.access_key

    def all(self) -> list[str]:
        """Return both access keys."""
        return [identity.access_key for identity in self._identities]


class Injector:
    """The faults and actions of one run, by their names in `kit.soak.schedule`.

    `roots` are two mounts: the first is stopped for moments, but lives as long as the run.
    """

    def __init__(self, stand: FaultyMounts, network: Network, load: Load, seed: int) -> None:
        self._stand, self._network, self._load = stand, network, load
        self._seed = seed
        home = Path(stand.env["HOME"])
        self._keys = Keys(home, [stand.server.licensee, stand.server.admin])
        with request_timeout(REQUEST_TIMEOUT_S):
            self.roots = [stand.mounts(*ARGUMENTS, env=stand.env) for _ in range(2)]
        self.pids = [status(root)["pid"] for root in self.roots]
        self.readers: list[ReadingProcess] = []
        self.fault = "none"
        self.faults: Counter[str] = Counter()
        self.actions: Counter[str] = Counter()
        self.aborted: list[str] = []
        self.failed: list[str] = []
        self._copying: threading.Thread | None = None

    def begin_fault(self, kind: str) -> None:
        """Replace the fault of the gateway."""
        front = self._stand.front
        self.faults[kind] += 1
        self.fault = kind
        front.start()  # does nothing unless the fault before has stopped it
        if kind in KINDS:
            front.faults = Faults(**KINDS[kind])
        elif kind == "flipped bytes":
            front.faults = Faults(**FLIPPED_BYTES, only=COPIED_OBJECTS)
        elif kind == "expired key":
            front.faults = Faults(rejected_keys={self._keys.renew(): "ExpiredToken"})
        elif kind == "refused keys":
            front.faults = Faults(rejected_keys=dict.fromkeys(self._keys.all(), "AccessDenied"))
        else:
            front.faults = Faults()
            front.stop()

    def end_faults(self) -> None:
        """Serve without faults, and wait for the prefetch that still runs."""
        self._stand.front.faults = Faults()
        self._stand.front.start()
        if self._copying is not None:
            self._copying.join()

    def act(self, name: str, number: int) -> None:
        """Run one action; one that fails is noted."""
        rng = random.Random(f"{self._seed} action {number}")
        method = getattr(self, f"_{name.replace(' -9', '').replace(' ', '_')}")
        self.actions[name] += 1
        try:
            method(rng)
        except (AssertionError, OSError, subprocess.SubprocessError) as error:
            self.failed.append(f"{name}: {error}")

    def check_mounts(self) -> None:
        """Note the mounts whose process has ended by itself, with the end of their log."""
        for number, pid in enumerate(self.pids):
            name = f"mount {number}: the process {pid} has ended"
            is_noted = any(note.startswith(name) for note in self.aborted)
            if not is_noted and not is_running(pid):
                [log] = self._stand.cache.rglob(f"logs/{self.roots[number].name}-*.log")
                end = log.read_text(errors="replace")[-LOG_CHARACTERS:]
                self.aborted.append(f"{name}; the end of its log:\n{end}")

    def _kill_of_a_mount(self, rng: random.Random) -> None:
        self.check_mounts()
        os.kill(self.pids[1], signal.SIGKILL)
        wait_until(lambda: not is_running(self.pids[1]))
        self._mount_again()

    def _remount(self, rng: random.Random) -> None:
        self.check_mounts()
        os.kill(self.pids[1], signal.SIGTERM)
        wait_until(lambda: not is_running(self.pids[1]), END_S)
        assert not is_mounted(self.roots[1]), "still mounted after SIGTERM"
        self._mount_again()

    def _lazy_unmount(self, rng: random.Random) -> None:
        self.check_mounts()
        run_cli("unmount", "--lazy", str(self.roots[1]))
        self._mount_again()

    def _mount_again(self) -> None:
        with request_timeout(REQUEST_TIMEOUT_S):
            self._stand.mounts.again(self.roots[1], *ARGUMENTS, env=self._stand.env)
        self.pids[1] = status(self.roots[1])["pid"]

    def _stopped_mount(self, rng: random.Random) -> None:
        pid = rng.choice(self.pids)
        os.kill(pid, signal.SIGSTOP)
        time.sleep(rng.uniform(0.2, 2.0))
        os.kill(pid, signal.SIGCONT)

    def _renewed_key(self, rng: random.Random) -> None:
        self._keys.renew()

    def _change_of_network(self, rng: random.Random) -> None:
        if self._network.refusal:
            self._stand.front.abandon_connections()
        else:
            self._network.change()

    def _lost_connections(self, rng: random.Random) -> None:
        self._stand.front.abandon_connections()

    def _locked_index(self, rng: random.Random) -> None:
        with locked(self._stand.cache / "v1" / "cache.db"):
            time.sleep(rng.uniform(0.2, 3.0))

    def _locked_facts(self, rng: random.Random) -> None:
        [facts] = self._stand.cache.rglob("facts.sqlite")
        with locked(facts):
            time.sleep(rng.uniform(0.2, 3.0))

    def _cleared_cache(self, rng: random.Random) -> None:
        run_cli("cache", "clear", env=self._stand.env)

    def _verified_cache(self, rng: random.Random) -> None:
        run_cli("cache", "verify", env=self._stand.env)

    def _kill_of_a_reader(self, rng: random.Random) -> None:
        # The last one lives as long as the run, so that what it keeps can be seen.
        rng.choice(self.readers[:-1]).kill()

    def _prefetch(self, rng: random.Random) -> None:
        """Copy files while their bytes may be flipped on the way; wait for it later."""
        if self._copying is not None and self._copying.is_alive():
            return
        self._copying = threading.Thread(target=self._copy)
        self._copying.start()

    def _copy(self) -> None:
        with tempfile.TemporaryDirectory(dir=self._stand.directory) as copies:
            options = ("-o", copies, *COPIES, "-y", "--retry-for", "10s")
            began_s = time.monotonic()
            try:
                done = run_cli(
                    "prefetch", *options, env=self._stand.env, check=False, timeout=PREFETCH_S
                )
            except subprocess.TimeoutExpired:
                self.failed.append(f"prefetch: runs longer than {PREFETCH_S:.0f} s")
                return
            self._load.operations["prefetch"] += 1
            self._load.slowest["prefetch"] = max(
                self._load.slowest.get("prefetch", 0.0), time.monotonic() - began_s
            )
            if done.returncode in {0, 3}:
                self._compare(Path(copies) / "v1", whole=done.returncode == 0)

    def _compare(self, copies: Path, *, whole: bool) -> None:
        """Compare the copies; one that is incomplete has another name."""
        for directory, files in (("components/imu", COPIED), ("annotations", SMALL)):
            for name, size in files.items():
                path = copies / directory / name
                if whole or path.exists():
                    found = path.read_bytes() if path.exists() else b""
                    self._load.compare(f"copy: {path}", found, Seeded(name).part(0, size))
