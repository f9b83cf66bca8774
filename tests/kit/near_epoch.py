"""Three nodes that read the same files at once with a near tier, whatever happens to it.

`python -m kit.near_epoch FILES` prints a table; `scripts/near-epoch` sets up first. Bytes are
counted at the gateway in front of S3. Each node is a process with a cache of its own, as root in a
network namespace of its own; both servers are real ones, S3 has 30 ms to the first byte.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ego4dfs.demo.server import S3Server
from kit.data import MIB, seeded
from kit.gateway import Faults, Gateway, Reply
from kit.near import BUCKET, PROFILE
from kit.network_namespaces import Network
from kit.processes import wait_until
from kit.server import SHARING, Release, environment

LATENCY_S = 0.03
NODES = 3
FAULTS = {
    "answers 503": {"reply": Reply(503)},
    "is full": {"reply": Reply(507), "method": "PUT"},
    "takes 1 s": {"latency_s": 1.0},
    "flips bytes": {"flip_byte": True},
}


@dataclass
class Epochs:
    """A release, a near tier, and the epochs of nodes with empty caches."""

    far_server: S3Server
    near_server: S3Server
    far: Gateway
    near: Gateway
    directory: Path
    network: Network | None
    version: str = "v77"
    sizes: dict[str, int] = field(default_factory=dict)
    number: int = 0

    def __post_init__(self) -> None:
        """Forward connections from the namespaces, if there are any."""
        relay = self.network.relay if self.network else str
        self.far_url, self.near_url = relay(self.far.url), relay(self.near.url)

    def publish(self, files: int) -> None:
        """Put small files and videos: one of 20 files is a video of 8 to 16 MiB."""
        release = Release(self.far_server, self.version)
        content = {}
        for number in range(files):
            if number % 20:
                content[f"{number}.pt"] = seeded(str(number), 40_000 + number % 97 * 400)
            else:
                content[f"{number}.mp4"] = seeded(str(number), (8 + number % 9) * MIB + number)
        release.metadata(b"{}")
        release.dataset("clips", content)
        self.sizes = {name: len(data) for name, data in content.items()}
        digests = {n: hashlib.md5(d).hexdigest() for n, d in content.items()}  # noqa: S324
        (self.directory / "digests.json").write_text(json.dumps(digests))

    @property
    def unique_bytes(self) -> int:
        """The size of all files."""
        return sum(self.sizes.values())

    def start(self, prefix: str) -> subprocess.Popen[str]:
        """Start a node with an empty cache; without a prefix it has no near tier."""
        self.number += 1
        home = self.directory / f"node-{self.number}"
        env = environment(self.far_server, home, "auto", AWS_ENDPOINT_URL=self.far_url)
        env["EGO4DFS_CACHE_SIZE"] = "4GiB"
        env["PYTHONPATH"] = os.pathsep.join(sys.path)
        keys = self.near_server.admin
        (home / ".aws").mkdir()
        (home / ".aws" / "credentials").write_text(
            f"[{PROFILE}]\naws_access_key_id = {keys.access_key}\n"
            f"aws_secret_access_key = {keys.secret_key}\n"
        )
        if prefix:
            env["EGO4DFS_NEAR"] = f"s3://{BUCKET}/{prefix}"
            env["EGO4DFS_NEAR_ENDPOINT"] = self.near_url
            env["EGO4DFS_NEAR_PROFILE"] = PROFILE
            env["EGO4DFS_FILL_NEAR"] = "1"
        digests = str(self.directory / "digests.json")
        command = [sys.executable, "-m", "kit.near_node", self.version, digests, str(self.number)]
        if self.network:
            node = self.network.nodes[self.number % NODES]
            command = [*self.network.within(node), *command]
        pipe, null = subprocess.PIPE, subprocess.DEVNULL
        return subprocess.Popen(command, env=env, stdout=pipe, stderr=null, text=True)

    def epoch(self, what: str, prefix: str, base_s: float = 0.0) -> float:
        """Let NODES nodes read all files at once; print a row, and return the longest time."""
        before = self.far.bytes_sent
        nodes = [self.start(prefix) for _ in range(NODES)]
        results = [json.loads(node.communicate()[0]) for node in nodes]
        self.report(what, results, self.far.bytes_sent - before, base_s)
        return max(one["seconds"] for one in results)

    def report(self, what: str, results: list[dict[str, Any]], sent: int, base_s: float) -> None:
        """Print one row."""
        seconds = max(one["seconds"] for one in results)
        ratio = f"{seconds / base_s:.2f}" if base_s else ""
        wrong = sum(len(one["wrong"]) for one in results)
        errors = sum(len(one["errors"]) for one in results)
        failures = "/".join(str(one["failures"]) for one in results)
        print(
            f"| {what} | {sent / self.unique_bytes:.3f} | {wrong} | {errors} | {seconds:.1f} |"
            f" {ratio} | {failures} |",
            flush=True,
        )

    def epoch_with_killed_node(self) -> None:
        """Kill a node while it holds a lease, and let three others read at once."""
        before = self.far.bytes_sent
        self.far.faults = Faults(latency_s=1.0)
        first = self.start("killed")
        wait_until(lambda: any("/leases/" in path for _, path, _ in self.near.log))
        time.sleep(0.2)
        first.send_signal(signal.SIGKILL)
        first.communicate()
        self.far.faults = Faults(latency_s=LATENCY_S)
        nodes = [self.start("killed") for _ in range(NODES)]
        results = [json.loads(node.communicate()[0]) for node in nodes]
        self.report("a node is killed in mid-lease", results, self.far.bytes_sent - before, 0.0)


def run(epochs: Epochs) -> None:
    """Print a row for each epoch."""
    where = "in network namespaces" if epochs.network else "as processes"
    mib = epochs.unique_bytes / MIB
    print(f"{len(epochs.sizes)} files, {mib:.0f} MiB, {NODES} nodes at once, {where}\n")
    print("| | S3 / unique bytes | wrong files | errors | s | / without | near failures |")
    print("|---|---|---|---|---|---|---|", flush=True)
    epochs.far.faults = Faults(latency_s=LATENCY_S)
    epochs.epoch_with_killed_node()
    base_s = epochs.epoch("no near tier", "")
    epochs.epoch("near tier, empty at first", "lab", base_s)
    epochs.epoch("near tier, full of it", "lab", base_s)
    epochs.far.stop()
    epochs.epoch("S3 is stopped", "lab", base_s)
    epochs.far.start()
    for what, faults in FAULTS.items():
        epochs.near.faults = Faults(**faults)
        prefix = "lab" if faults.get("flip_byte") else f"new-{epochs.number}"
        epochs.epoch(f"near tier {what}", prefix, base_s)
    epochs.near.stop()
    epochs.epoch("near tier is stopped", "lab", base_s)


def main(arguments: Iterable[str] | None = None) -> None:
    """Parse arguments and run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", type=int, nargs="?", default=400)
    parser.add_argument(
        "--processes", action="store_true", help="as root, too, use no network namespaces"
    )
    args = parser.parse_args(arguments)
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        far_server = stack.enter_context(S3Server(directory / "s3"))
        near_server = stack.enter_context(S3Server(directory / "near"))
        far_server.create_bucket(SHARING)
        near_server.create_bucket(BUCKET)
        far = stack.enter_context(Gateway(far_server.endpoint_url))
        near = stack.enter_context(Gateway(near_server.endpoint_url))
        network = None
        if not args.processes and os.geteuid() == 0:
            network = stack.enter_context(Network([f"node{n}" for n in range(NODES)]))
        epochs = Epochs(far_server, near_server, far, near, directory, network)
        epochs.publish(args.files)
        run(epochs)


if __name__ == "__main__":
    main()
