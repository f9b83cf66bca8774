"""`ego4dfs browse` as a process: its pages, what they ask for, and its memory."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from benchmarks import RunError, samples
from benchmarks.servers import Servers
from ego4dfs.demo.release import manifest_location, split_location
from ego4dfs.demo.videos import CONSORTIUM

DATASET = "browse_videos"
_VERBS = ("picks up", "cuts", "washes", "moves", "opens", "holds", "stirs", "turns", "looks at")
_NOUNS = ("the knife", "a bowl", "the bag", "a plate", "the drawer", "bread", "the tap", "a cloth")
_READY_S = 900.0


@dataclass(frozen=True, slots=True)
class Pages:
    """The pages that a process serves."""

    url: str
    process: subprocess.Popen[str]

    def answer(self, name: str, **parameters: str) -> Any:
        """Return the JSON of `api/<name>`."""
        url = f"{self.url}api/{name}?{urlencode(parameters)}"
        with urllib.request.urlopen(url, timeout=120) as answer:  # noqa: S310 - of this machine
            return json.load(answer)

    def wait_until_read(self) -> None:
        """Wait until all annotations have been read."""
        end_s = time.monotonic() + _READY_S
        while not self.answer("status")["is_done"]:
            if time.monotonic() > end_s:
                raise RunError("the annotations were not read")
            time.sleep(0.5)

    def peak_mib(self) -> float:
        """Return the most memory that the process has had."""
        lines = Path(f"/proc/{self.process.pid}/status").read_text().split("\n")
        peak = next(line for line in lines if line.startswith("VmHWM:"))
        return int(peak.split()[1]) / 1024


@contextmanager
def browsing(servers: Servers, shape: str, cache: Path, datasets: Sequence[str]) -> Iterator[Pages]:
    """Serve the pages of datasets until the end of the block."""
    words = ["browse", "--no-open", "--version", samples.VERSION, "--datasets", *datasets]
    process = subprocess.Popen(
        [sys.executable, "-m", "ego4dfs", *words],
        env=servers.environment(shape, cache),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        line = process.stdout.readline() if process.stdout else ""
        if not line.startswith("Ego4D is at "):
            raise RunError("ego4dfs browse did not start")
        yield Pages(line.split()[-1], process)
    finally:
        process.terminate()
        process.wait()


def publish(servers: Servers, videos: int, narrations: int) -> None:
    """Publish the manifest and ego4d.json of so many videos, and so many narrations of them all."""
    uids = [f"{number:08x}-0000-4000-8000-000000000000" for number in range(videos)]
    samples.publish_manifest(servers, DATASET, uids)
    described = [
        {"video_uid": uid, "duration_sec": 1447.0, "scenarios": ["Cooking", f"Scenario {at % 90}"]}
        for at, uid in enumerate(uids)
    ]
    document = json.dumps({"videos": described, "clips": []}).encode()
    servers.s3.put(CONSORTIUM, f"public/{samples.VERSION}/ego4d.json", document)
    file = servers.empty("scratch") / "narration.json"
    _write_narrations(file, uids, narrations // videos)
    key = f"public/{samples.VERSION}/annotations/narration.json"
    servers.s3.put(CONSORTIUM, key, file)
    file.unlink()
    header = "file_uid,annotation,type,canonical_s3_location"
    row = f"narration,narrations,file,s3://{CONSORTIUM}/{key}"
    bucket, place = split_location(manifest_location(samples.VERSION, "annotations"))
    servers.s3.put(bucket, place, f"{header}\n{row}\n".encode())


def _write_narrations(file: Path, uids: Sequence[str], each: int) -> None:
    rng = random.Random("narrations")
    texts = [f"#C C {verb} {noun}" for verb in _VERBS for noun in _NOUNS]
    with file.open("w") as stream:
        stream.write("{")
        for place, uid in enumerate(uids):
            rows = [
                {
                    "timestamp_sec": 3.4 * number,
                    "timestamp_frame": 102 * number,
                    "narration_text": f"{rng.choice(texts)} {rng.randrange(1000)}",
                    "annotation_uid": f"{uid}-{number}",
                }
                for number in range(each)
            ]
            video = {"narration_pass_1": {"narrations": rows, "summaries": []}}
            stream.write(f"{', ' if place else ''}{json.dumps(uid)}: {json.dumps(video)}")
        stream.write("}")
