"""A node that reads all files of a dataset in random order, and compares each with its digest.

    python -m kit.near_node VERSION DIGESTS SEED

Prints one line of JSON: seconds for the last four fifths of the files, wrong files, errors, and
counters. The options of `ego4d://` are in the environment.
"""

from __future__ import annotations

import hashlib
import json
import random
import sys
import time
from pathlib import Path

import fsspec


def main() -> None:
    version, digests, seed = sys.argv[1:]
    expected = json.loads(Path(digests).read_text())
    fs = fsspec.filesystem("ego4d", version=version, datasets=["clips"], metadata=False)
    names = sorted(expected)
    random.Random(int(seed)).shuffle(names)
    wrong, errors, began_s = [], [], 0.0
    for number, name in enumerate(names):
        if number == len(names) // 5:
            began_s = time.monotonic()
        try:
            with fs.open(f"{version}/clips/{name}") as file:
                found = hashlib.md5()  # noqa: S324
                while data := file.read(1 << 20):
                    found.update(data)
        except OSError as error:
            errors.append(f"{name}: {error}")
            continue
        if found.hexdigest() != expected[name]:
            wrong.append(name)
    seconds = time.monotonic() - began_s
    counters = fs.vfs.status()
    fs.close()
    print(
        json.dumps(
            {
                "seconds": seconds,
                "wrong": wrong,
                "errors": errors,
                "from_s3": counters["bytes_fetched"],
                "from_near": counters["bytes_from_near"],
                "near": counters["near"],
                "failures": counters["near_failures"],
            }
        )
    )


if __name__ == "__main__":
    main()
