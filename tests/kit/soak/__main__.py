"""The command `scripts/soak MINUTES`."""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
from pathlib import Path

from kit import soak
from kit.faulty_mounts import add_options
from kit.soak.network import Network
from kit.soak.run import run


def main() -> int:
    """Run; exit with 1 when a promise was broken, and leave nothing behind."""
    parser = argparse.ArgumentParser(prog="scripts/soak", description=soak.__doc__)
    parser.add_argument("minutes", type=float)
    add_options(parser)
    options = vars(parser.parse_args())
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    seconds = options.pop("minutes") * 60
    network = Network()  # before any thread
    with tempfile.TemporaryDirectory(prefix="soak-") as directory:
        outcome = run(Path(directory), network, seconds=seconds, **options)
    print(outcome)
    return 0 if outcome.is_right else 1


if __name__ == "__main__":
    sys.exit(main())
