"""What tests share: a real S3 server, a licensee's identity, and mounts that never stay behind.

`pytest --libfuse 2 --transport s3fs` runs the suite on the other two libraries.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
from mountkit import is_mounted

from ego4dfs.config import resolve
from ego4dfs.demo.server import S3Server
from ego4dfs.vfs import VFS, open_vfs

pytest_plugins = ("copybench", "prefetchkit", "officialkit", "shown")

SHARING = "ego4d-consortium-sharing"
EGO4DFS = [sys.executable, "-m", "ego4dfs"]


def pytest_configure() -> None:
    """Let children hear SIGHUP and Ctrl-C even when this run was started by nohup or with `&`."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--libfuse", default="3", choices=("2", "3"))
    parser.addoption("--transport", default="obstore", choices=("obstore", "s3fs"))


@pytest.fixture(scope="session")
def libfuse(request: pytest.FixtureRequest) -> str:
    return str(request.config.getoption("--libfuse"))


@pytest.fixture(scope="session")
def transport(request: pytest.FixtureRequest) -> str:
    return str(request.config.getoption("--transport"))


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """One SeaweedFS for the whole run; each test puts its objects into a release of its own."""
    with S3Server(tmp_path_factory.mktemp("s3")) as running:
        running.create_bucket(SHARING)
        yield running


@dataclass(frozen=True)
class Release:
    """One version of Ego4D of a test's own, on the shared server: `v<number>`."""

    server: S3Server
    version: str

    def manifest(self, dataset: str, content: str | bytes) -> bytes:
        """Publish it and return its bytes."""
        data = content.encode() if isinstance(content, str) else content
        self.server.put(SHARING, f"public/{self.version}/{dataset}/manifest.csv", data)
        return data

    def url(self, name: str) -> str:
        """Return the URL of an object of this release."""
        return f"s3://{SHARING}/public/{self.version}/objects/{name}"

    def put(self, name: str, data: bytes) -> str:
        """Publish one object and return its URL."""
        self.server.put(SHARING, f"public/{self.version}/objects/{name}", data)
        return self.url(name)

    def dataset(self, dataset: str, files: Mapping[str, bytes]) -> bytes:
        """Publish a dataset of files under their own names and return its manifest."""
        self.server.put_many(
            SHARING,
            [(f"public/{self.version}/objects/{dataset}/{n}", d) for n, d in files.items()],
        )
        rows = [f"{n.partition('.')[0]},file,{self.url(f'{dataset}/{n}')}" for n in files]
        return self.manifest(dataset, "\n".join(["video_uid,type,s3_path", *rows, ""]))

    def metadata(self, content: bytes) -> None:
        """Publish ego4d.json."""
        self.server.put(SHARING, f"public/{self.version}/ego4d.json", content)


@pytest.fixture
def release(server: S3Server) -> Release:
    return Release(server, f"v{uuid.uuid4().int % 10**12}")


@pytest.fixture
def licensee(
    server: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, transport: str
) -> dict[str, str]:
    """Be the licensee, in an empty home and with an empty cache; returns the environment."""
    home = tmp_path / "home"
    home.mkdir()
    for name in [name for name in os.environ if name.startswith(("AWS_", "EGO4DFS_", "XDG_"))]:
        monkeypatch.delenv(name)
    ours = {
        **server.environment(server.licensee),
        "HOME": str(home),
        "EGO4DFS_CACHE_DIR": str(tmp_path / "cache"),
        "EGO4DFS_CACHE_SIZE": "256MiB",
        "EGO4DFS_TRANSPORT": transport,
    }
    for name, value in ours.items():
        monkeypatch.setenv(name, value)
    return dict(os.environ)


@pytest.fixture
def open_tree(licensee: Mapping[str, str]) -> Iterator[Callable[..., VFS]]:
    """Open VFSs from options; they are closed when the test ends."""
    del licensee
    with ExitStack() as stack:

        def open_one(**options: object) -> VFS:
            vfs = open_vfs(resolve(options))
            stack.callback(vfs.close)
            return vfs

        yield open_one


class Mounts:
    """Mounts made by the real command, in processes of their own, and taken away in the end."""

    def __init__(self, directory: Path, libfuse: str) -> None:
        self._directory = directory
        self._libfuse = libfuse
        self._mounted: list[Path] = []

    def __call__(self, *arguments: str, env: Mapping[str, str] | None = None) -> Path:
        """Mount in the background and return the mountpoint."""
        mountpoint = self._directory / f"mount{len(self._mounted)}"
        mountpoint.mkdir()
        self._mounted.append(mountpoint)
        run_cli("mount", str(mountpoint), "--libfuse", self._libfuse, *arguments, env=env)
        return mountpoint

    def again(
        self, mountpoint: Path, *arguments: str, env: Mapping[str, str] | None = None
    ) -> Path:
        """Mount on a mountpoint that was unmounted."""
        run_cli("mount", str(mountpoint), "--libfuse", self._libfuse, *arguments, env=env)
        return mountpoint

    def unmount(self, mountpoint: Path) -> None:
        """Unmount as a user does."""
        run_cli("unmount", str(mountpoint))

    def clear(self) -> list[Path]:
        """Take away what is still mounted, by force, and say what it was."""
        left = [path for path in self._mounted if is_mounted(path)]
        for path in left:
            subprocess.run([*EGO4DFS, "unmount", str(path)], check=False, timeout=60)
            if is_mounted(path):
                subprocess.run(["umount", "-l", str(path)], check=False, timeout=60)
        return left


@pytest.fixture
def mount(licensee: Mapping[str, str], tmp_path: Path, libfuse: str) -> Iterator[Mounts]:
    """Mount with the real command; whatever the test leaves mounted is unmounted."""
    del licensee
    mounts = Mounts(tmp_path, libfuse)
    yield mounts
    mounts.clear()


def run_cli(
    *arguments: str, env: Mapping[str, str] | None = None, check: bool = True, timeout: float = 60
) -> subprocess.CompletedProcess[str]:
    """Run `ego4dfs` as a user does; with `check`, exit code 0 is wanted."""
    done = subprocess.run(
        [*EGO4DFS, *arguments],
        env=dict(env) if env is not None else None,
        capture_output=True,
        text=True,
        check=False,
        timeout=timeout,
        stdin=subprocess.DEVNULL,
    )
    if check:
        assert done.returncode == 0, f"{arguments}: {done.stderr}"
    return done


@pytest.fixture
def cli() -> Callable[..., subprocess.CompletedProcess[str]]:
    return run_cli
