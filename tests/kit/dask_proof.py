"""Prefetch of the sample and 2,000 objects more by four Dask workers, of which one is killed.

`scripts/dask` compares the copies with those of one machine, and counts the bytes
that S3 sends. With `--each-node` the workers are those of two nodes: network namespaces, which need
root, with addresses, caches and directories of their own. Prints one line of JSON.
"""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ego4dfs.demo.sample import Sample, build
from ego4dfs.demo.server import S3Server
from kit.dask import address_in
from kit.data import MIB, seeded
from kit.gateway import Gateway
from kit.namespaces import unshare
from kit.network_namespaces import Network
from kit.prefetch import tree
from kit.processes import wait_until
from kit.server import SHARING, environment, shared_media

DATASET = "omnivore_video_swinl"
OBJECT_BYTES = 58_000  # about that of a feature file
EGO4DFS = [sys.executable, "-m", "ego4dfs"]
QUIET: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}


def main() -> None:
    """Run the proof; raises AssertionError if it fails."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--objects", type=int, default=2000)
    parser.add_argument("--each-node", action="store_true")
    args = parser.parse_args()
    with ExitStack() as stack:
        print(json.dumps(Proof(stack, args.objects, each_node=args.each_node).run()))


class Proof:
    """One run, in a temporary directory."""

    def __init__(self, stack: ExitStack, objects: int, *, each_node: bool) -> None:
        self.stack = stack
        self.each_node = each_node
        self.home = Path(stack.enter_context(TemporaryDirectory(prefix="dask-proof-")))
        server = stack.enter_context(S3Server(self.home / "s3"))
        self.datasets = with_more(server, build(server, shared_media()), objects)
        self.front = stack.enter_context(Gateway(server.endpoint_url))
        self.env = environment(server, self.home / "user", "obstore")
        self.env["AWS_ENDPOINT_URL"] = self.front.url
        self.nodes = ["one", "two"] if each_node else [""]
        self.network = stack.enter_context(Network(self.nodes)) if each_node else None
        self.host = self.network.host if self.network else "127.0.0.1"

    def run(self) -> dict[str, object]:
        """Fetch by one machine, then by the cluster; compare."""
        single = self.prefetch(self.home / "single")
        size = single["fetched_bytes"]
        expected = comparable(self.home / "single")
        address = self.scheduler()
        workers = [self.worker(address, self.nodes[i * len(self.nodes) // 4]) for i in range(4)]
        before = self.front.bytes_sent
        self.front.faults.bytes_per_s = 2.0 * MIB  # of each connection
        options = ["--dask", address, *(["--each-node"] if self.each_node else [])]
        command = self.command(self.home / "out", *options)
        run = self.start(command, stdout=subprocess.PIPE, text=True, env=self.env)
        wanted = size * len(self.nodes)
        wait_until(lambda: self.front.bytes_sent - before > wanted / 2, timeout_s=300)
        workers[0].send_signal(signal.SIGKILL)
        self.front.faults.bytes_per_s = 0.0
        text, _ = run.communicate(timeout=600)
        assert run.returncode == 0, text
        report, sent = json.loads(text), self.front.bytes_sent - before
        for directory in self.directories():
            assert comparable(directory) == expected, directory
        again = self.prefetch(self.home / "out", *options)
        assert again["fetched_bytes"] == 0, again
        assert report["done"] + report["skipped"] == report["files"], report
        assert not report["problems"]
        assert sent <= 1.05 * wanted, (sent, wanted)
        return {
            "files": report["files"],
            "bytes": wanted,
            "bytes_sent": sent,
            "ratio": round(sent / wanted, 4),
            "reported_bytes": report["fetched_bytes"],
            "seconds": report["seconds"],
            "nodes": report.get("nodes", []),
        }

    def directories(self) -> list[Path]:
        """Return where the copies of each node are."""
        return [self.home / name / "out" if name else self.home / "out" for name in self.nodes]

    def command(self, out: Path, *options: str) -> list[str]:
        """Return a command line that fetches everything."""
        return [
            *EGO4DFS,
            "prefetch",
            "-y",
            "-o",
            str(out),
            "--json",
            "--datasets",
            *self.datasets,
            *options,
        ]

    def prefetch(self, out: Path, *options: str) -> dict[str, Any]:
        """Run it; files that the key may not read are left out."""
        done = subprocess.run(
            self.command(out, *options), env=self.env, stdout=subprocess.PIPE, check=False
        )
        assert done.returncode == 0, done
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    def start(self, command: Sequence[str], **options: Any) -> subprocess.Popen[Any]:
        process = subprocess.Popen(command, **options)
        self.stack.callback(process.wait)
        self.stack.callback(process.kill)
        return process

    def scheduler(self) -> str:
        """Start a scheduler, and return its address."""
        known = self.home / "scheduler.json"
        module = [sys.executable, "-m", "distributed.cli.dask_scheduler", "--no-dashboard"]
        where = ["--host", self.host, "--port", "0", "--scheduler-file", str(known)]
        self.start([*module, *where], **QUIET)
        return address_in(known)

    def worker(self, address: str, node: str) -> subprocess.Popen[Any]:
        """Start a worker, in the namespaces of a node if one is named."""
        module = [sys.executable, "-m", "distributed.cli.dask_worker", address, "--no-dashboard"]
        how = ["--nthreads", "1", "--no-nanny", "--memory-limit", "0", "--death-timeout", "60"]
        if self.network is None:
            return self.start([*module, *how, "--host", self.host], env=self.env, **QUIET)
        out, own = self.home / "out", self.home / node / "out"
        out.mkdir(exist_ok=True)
        own.mkdir(parents=True, exist_ok=True)
        mount = f'mount --bind {own} {out} && exec "$@"'
        within = [*self.network.within(node), *unshare("private"), "sh", "-c", mount, "sh"]
        env = {
            **self.env,
            "AWS_ENDPOINT_URL": self.network.relay(self.front.url),
            "EGO4DFS_CACHE_DIR": str(self.home / node / "cache"),
        }
        host = self.network.address(node)
        return self.start([*within, *module, *how, "--host", host], env=env, **QUIET)


def with_more(server: S3Server, sample: Sample, objects: int) -> list[str]:
    """Publish a dataset of so many objects; return all datasets of v2_1."""
    files = {f"{n:05}.pt": seeded(f"object {n}", OBJECT_BYTES + n) for n in range(objects)}
    server.put_many(SHARING, [(f"public/v2_1/more/{name}", data) for name, data in files.items()])
    rows = [f"{n[:5]},feature,s3://{SHARING}/public/v2_1/more/{n}" for n in files]
    text = "\n".join(["video_uid,type,s3_path", *rows, ""])
    server.put(SHARING, f"public/v2_1/{DATASET}/manifest.csv", text.encode())
    allowed = [name for name in sample.datasets("v2_1") if name not in sample.refused]
    return [*dict.fromkeys([*allowed, DATASET])]


def comparable(root: Path) -> dict[str, object]:
    """Return the files by path; the rows of manifest.ver are in the order of their completion."""
    found = tree(root)
    rows = {
        path: sorted(data.splitlines()) for path, data in found.items() if path.endswith(".ver")
    }
    return {**found, **rows}


if __name__ == "__main__":
    main()
