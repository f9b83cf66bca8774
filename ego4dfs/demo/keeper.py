"""The background process of `ego4dfs demo --keep`: it runs the S3 server until SIGTERM.

Its directory holds `demo.json` (pid and endpoint, once the sample exists) and `credentials`
(the licensee's profile, 0600), so that the keys are never printed.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ego4dfs.demo.sample import build
from ego4dfs.demo.server import S3Server
from ego4dfs.demo.sigv4_client import Identity
from ego4dfs.errors import Ego4DError, starting_process

_MODULE = "ego4dfs.demo.keeper"  # not __name__, which is __main__ in the keeper itself
STALL_S = 120.0
"""Time without progress until start fails: each video takes seconds to make."""

_END_S = 20.0


@dataclass(frozen=True, slots=True)
class RunningDemo:
    """A running demo: the keeper's process, and the address of its server."""

    directory: Path
    pid: int
    endpoint_url: str

    @property
    def credentials(self) -> Path:
        """The licensee's keys as an AWS credentials file."""
        return self.directory / "credentials"

    def environment(self) -> dict[str, str]:
        """Return the variables that make ego4dfs and AWS tools use this server."""
        return {
            "AWS_SHARED_CREDENTIALS_FILE": str(self.credentials),
            "AWS_ENDPOINT_URL": self.endpoint_url,
        }

    def end(self) -> None:
        """End the keeper and its server, and wait until they are gone."""
        os.kill(self.pid, signal.SIGTERM)
        deadline = time.monotonic() + _END_S
        while is_keeper(self.pid) and time.monotonic() < deadline:
            time.sleep(0.05)


def write_credentials(path: Path, identity: Identity) -> None:
    """Write an AWS credentials file that only its owner can read."""
    path.touch(mode=0o600)
    path.write_text(
        f"[default]\naws_access_key_id = {identity.access_key}\n"
        f"aws_secret_access_key = {identity.secret_key}\n"
    )


def is_keeper(pid: int) -> bool:
    """Return whether this pid is a keeper, not a reused pid or a zombie."""
    try:
        return _MODULE.encode() in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def find(directory: Path) -> RunningDemo | None:
    """Return the demo that runs in this directory, or None."""
    try:
        content = json.loads((directory / "demo.json").read_text())
        running = RunningDemo(directory, int(content["pid"]), str(content["endpoint_url"]))
    except (OSError, ValueError, KeyError):
        return None
    return running if is_keeper(running.pid) else None


def start(directory: Path) -> RunningDemo:
    """Start a keeper in this directory and return once its sample can be read."""
    with (directory / "keeper.log").open("wb") as log, starting_process():
        process = subprocess.Popen(
            [sys.executable, "-m", _MODULE, str(directory)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        return _await(directory, process)
    except BaseException:
        process.terminate()
        raise


def _await(directory: Path, process: subprocess.Popen[bytes]) -> RunningDemo:
    """Return the keeper once it is ready; wait as long as it makes progress."""
    written, deadline = -1, 0.0
    while process.poll() is None:
        running = find(directory)
        if running is not None:
            return running
        total = _written_bytes(directory)
        if total != written:
            written, deadline = total, time.monotonic() + STALL_S
        if time.monotonic() > deadline:
            raise Ego4DError(
                f"the demo's S3 server made no progress for {STALL_S:.0f} s",
                hint="check that the disk is not full and the machine not busy, and try again",
            )
        time.sleep(0.2)
    log = (directory / "keeper.log").read_text(errors="replace")
    reason = log.strip().rpartition("\n")[2] or f"it ended with code {process.returncode}"
    raise Ego4DError(f"the demo's S3 server did not start: {reason}")


def _written_bytes(directory: Path) -> int:
    """Return how many bytes of media and objects are written; logs grow without progress."""
    total = 0
    for part in ("media", "s3/data"):
        for path in (directory / part).rglob("*"):
            with suppress(OSError):  # the server moves its files
                total += path.stat().st_size
    return total


def main() -> None:
    """Serve the sample from the directory named on the command line until SIGTERM."""
    directory = Path(sys.argv[1])
    # Blocked before any thread starts: all of them inherit it, and sigwait takes the signal.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    with S3Server(directory / "s3") as server:
        build(server, directory / "media")
        write_credentials(directory / "credentials", server.licensee)
        content = {"pid": os.getpid(), "endpoint_url": server.endpoint_url}
        partial = directory / ".demo.json.part"
        partial.write_text(json.dumps(content))
        partial.replace(directory / "demo.json")
        signal.sigwait({signal.SIGTERM, signal.SIGINT})


if __name__ == "__main__":
    main()
