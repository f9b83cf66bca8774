"""A reading process: reads files sequentially or at random offsets, and checks every byte.

    python -m kit.reader_process sequential|random SEED FILE...

A file's bytes follow from its name and size: see `seeded` in kit.data.
"""

from __future__ import annotations

import os
import random
import sys
from pathlib import Path

from kit.data import MIB, Seeded

PIECE = 1 << 20
RANDOM_READS = 150


def sequentially(path: Path) -> bool:
    """Read a file from start to end; return whether all bytes are right."""
    wanted = Seeded(path.name)
    offset = 0
    with path.open("rb", buffering=0) as file:
        while data := file.read(PIECE):
            if data != wanted.part(offset, len(data)):
                return False
            offset += len(data)
    return offset == path.stat().st_size


def at_random(paths: list[Path], rng: random.Random) -> bool:
    """Read ranges of several sizes at random offsets; return whether all bytes are right."""
    for _ in range(RANDOM_READS):
        path = rng.choice(paths)
        size = rng.choice((100, 4096, 256 << 10, 2 * MIB))
        offset = rng.randrange(path.stat().st_size - size)
        fd = os.open(path, os.O_RDONLY)
        try:
            if os.pread(fd, size, offset) != Seeded(path.name).part(offset, size):
                return False
        finally:
            os.close(fd)
    return True


def main() -> int:
    how, seed, *names = sys.argv[1:]
    paths = [Path(name) for name in names]
    rng = random.Random(int(seed))
    rng.shuffle(paths)
    return not (all(map(sequentially, paths)) if how == "sequential" else at_random(paths, rng))


if __name__ == "__main__":
    sys.exit(main())
