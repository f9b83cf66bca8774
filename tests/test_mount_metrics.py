"""`mount --metrics`: what Prometheus reads from a real mount, and what cannot hurt the mount."""

from __future__ import annotations

import errno
import os
import signal
import socket
import subprocess
import threading
from contextlib import ExitStack, closing
from pathlib import Path
from socketserver import TCPServer
from urllib.parse import urlsplit

import pytest

from ego4dfs.errors import ConfigError
from ego4dfs.metrics import Metrics
from ego4dfs.mount.metrics_server import MAX_CLIENTS, MetricsServer
from kit.cli import EGO4DFS, complaint
from kit.data import MIB, seeded
from kit.gateway import Gateway
from kit.metrics import metrics_text, of_status, samples
from kit.mounts import is_mounted, status
from kit.processes import is_running, open_descriptors, wait_until

pytestmark = pytest.mark.first_pass

FILES = {"a.bin": seeded("a", MIB), "b.bin": seeded("b", 6 * MIB)}
ABOUT = {"version": "1", "mountpoint": "/m"}


@pytest.fixture
def arguments(release) -> list[str]:
    """Publish a dataset with one object that is missing, and return the flags that select it."""
    release.metadata(b"{}")
    release.dataset("annotations", FILES)
    rows = [f"{n},file,{release.url(f'annotations/{n}')}" for n in FILES]
    rows.append(f"gone,file,{release.url('gone.bin')}")
    release.manifest("annotations", "\n".join(["video_uid,type,s3_path", *rows, ""]))
    return ["--version", release.version, "--datasets", "annotations", "--verify", "off"]


@pytest.fixture
def root(mount, arguments) -> Path:
    return mount(*arguments, "--metrics", "0")


def scraped(root):
    return samples(metrics_text(status(root)["metrics_url"]))


def by_source(root):
    found = scraped(root)
    sources = ("store", "cache", "copies")
    return [found["ego4dfs_read_bytes_total", (source,)] for source in sources]


def connected(url: str) -> socket.socket:
    parts = urlsplit(url)
    return socket.create_connection((parts.hostname, parts.port), timeout=30)


@pytest.mark.fuse
def test_the_metrics_of_a_mount_are_the_values_of_its_status(root, arguments):
    directory = root / arguments[1] / "annotations"
    with (directory / "b.bin").open("rb", buffering=0) as file:
        file.read(10)
        (directory / "a.bin").read_bytes()
        with pytest.raises(OSError, match="gone"):
            (directory / "gone.bin").read_bytes()

        def quiet():
            before = status(root)
            found = scraped(root)
            after = status(root)
            is_same = {**before, "uptime_s": after["uptime_s"]} == after
            return found if is_same and after["open_files"] == 1 else None

        found, now = wait_until(quiet), status(root)
    wanted = of_status(now)
    assert {key: found[key] for key in wanted} == pytest.approx(wanted)
    ours = {key for key in found if key[0].startswith("ego4dfs_")}
    times = {("ego4dfs_start_time_seconds", ()), *(key for key in ours if "_info" in key[0])}
    assert ours == {*wanted, *times}
    assert found["ego4dfs_open_files", ()] == 1  # the kernel releases the others a bit later
    assert found["ego4dfs_read_errors_total", ("open",)] == 1
    assert found["ego4dfs_store_request_results_total", ("get", "ok")] > 0
    assert found["process_resident_memory_bytes", ()] > MIB
    wait_until(lambda: scraped(root)["ego4dfs_open_files", ()] == 0)


@pytest.mark.fuse
def test_bytes_are_counted_by_where_they_were_when_a_read_began(mount, arguments, cli, tmp_path):
    root = mount(*arguments, "--metrics", ":0")
    path = f"{arguments[1]}/annotations/a.bin"
    (root / path).read_bytes()
    store, cache, copies = by_source(root)  # later reads may find what the first has fetched
    assert (store + cache, copies) == (MIB, 0)
    assert store > 0
    mount.unmount(root)
    mount.again(root, *arguments, "--metrics", "localhost:0")
    (root / path).read_bytes()
    assert by_source(root) == [0, MIB, 0]
    mount.unmount(root)
    directory = str(tmp_path / "copies")
    cli("prefetch", "-y", "-o", directory, *arguments[:4], "--include", "a.bin")
    mount.again(root, *arguments, "--metrics", "0", "--copies", directory)
    (root / path).read_bytes()
    assert by_source(root) == [0, 0, MIB]


@pytest.mark.fuse
def test_requests_without_an_answer_are_counted_as_such(mount, arguments, server):
    with Gateway(server.endpoint_url) as gateway:
        root = mount(*arguments, "--metrics", "0", "--endpoint-url", gateway.url)
        wait_until(lambda: status(root)["store"] == "online")
        gateway.stop()
        with pytest.raises(OSError, match="a"):
            (root / arguments[1] / "annotations/a.bin").read_bytes()
        found = scraped(root)
    assert found["ego4dfs_store_request_results_total", ("head", "no answer")] > 0
    assert found["ego4dfs_store_state", ("offline",)] == 1
    assert found["ego4dfs_store_state", ("online",)] == 0


@pytest.mark.fuse
def test_metrics_have_no_keys_urls_or_names_of_objects(root, arguments, server):
    directory = root / arguments[1] / "annotations"
    with pytest.raises(OSError, match="gone"):
        (directory / "gone.bin").read_bytes()
    assert "gone.bin" in status(root)["last_error"]
    text = metrics_text(status(root)["metrics_url"])
    secrets = server.environment(server.licensee).values()
    assert not [word for word in (*secrets, "s3://", "http", "gone") if word and word in text]


@pytest.mark.fuse
def test_the_address_is_printed_by_mount_and_status(mount, arguments, cli, tmp_path):
    mountpoint = tmp_path / "here"
    mountpoint.mkdir()
    mount.adopt(mountpoint)
    lines = cli("mount", str(mountpoint), *arguments, "--metrics", "0").stdout.splitlines()
    url = status(mountpoint)["metrics_url"]
    assert url.startswith("http://127.0.0.1:")
    assert f"  metrics   {url}" in lines
    assert url in cli("status", str(mountpoint)).stdout


@pytest.mark.fuse
def test_a_mount_without_the_option_listens_nowhere(mount, arguments):
    root = mount(*arguments)
    found = status(root)
    assert found["metrics_url"] == ""
    links = open_descriptors(found["pid"])
    sockets = {link[8:-1] for link in links if link.startswith("socket:[")}
    listening = [row.split() for row in Path("/proc/net/tcp").read_text().splitlines()]
    assert not [row for row in listening if row[3] == "0A" and row[9] in sockets]


@pytest.mark.fault(
    area="mount",
    fault="`--metrics` with a port that another process uses",
    face="mount",
    sees="nothing is mounted; one line names the address",
    deadline="at once",
)
@pytest.mark.fuse
@pytest.mark.parametrize("options", [[], ["--foreground"]])
def test_a_port_in_use_is_one_line_and_no_mount(arguments, cli, tmp_path, options):
    mountpoint = tmp_path / "here"
    mountpoint.mkdir()
    with closing(socket.create_server(("127.0.0.1", 0))) as other:
        address = f"127.0.0.1:{other.getsockname()[1]}"
        done = cli(
            "mount", str(mountpoint), *arguments, *options, "--metrics", address, check=False
        )
    assert done.returncode == 2
    assert f"--metrics {address}: address already in use\n" in complaint(done)
    assert not is_mounted(mountpoint)


@pytest.mark.fuse
def test_without_the_library_one_line_says_how_to_install_it(
    arguments, cli, tmp_path, licensee, monkeypatch
):
    (tmp_path / "prometheus_client.py").write_text("raise ImportError")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    mountpoint = tmp_path / "here"
    mountpoint.mkdir()
    done = cli("mount", str(mountpoint), *arguments, "--metrics", "0", check=False)
    assert done.returncode == 2
    assert "prometheus-client, which is not installed" in complaint(done)
    assert "hint: pip install 'ego4dfs[metrics]'" in done.stderr
    assert not is_mounted(mountpoint)


@pytest.mark.fault(
    area="mount",
    fault="clients of `--metrics` that send or take nothing",
    face="mount",
    sees="reads, other scrapes and the unmount do not wait for them",
    deadline="at once",
)
@pytest.mark.fuse
@pytest.mark.parametrize("way", ["unmount", "SIGTERM"])
def test_a_client_that_hangs_delays_nothing(mount, arguments, way):
    root = mount(*arguments, "--metrics", "0")
    found = status(root)
    with ExitStack() as clients:
        for number in range(MAX_CLIENTS + 3):
            client = clients.enter_context(connected(found["metrics_url"]))
            client.sendall(b"GET /metrics HTTP/1.1\r\n" if number % 2 else b"")
        assert metrics_text(found["metrics_url"])
        assert (root / arguments[1] / "annotations/a.bin").read_bytes() == FILES["a.bin"]
        if way == "unmount":
            mount.unmount(root)
        else:
            os.kill(found["pid"], signal.SIGTERM)
            wait_until(lambda: not is_running(found["pid"]))
        assert not is_running(found["pid"])
    with pytest.raises(ConnectionRefusedError):
        connected(found["metrics_url"])


@pytest.mark.fuse
def test_an_end_in_the_foreground_does_not_wait_for_a_client(mount, arguments, tmp_path):
    mountpoint = tmp_path / "here"
    mountpoint.mkdir()
    mount.adopt(mountpoint)
    command = [*EGO4DFS, "mount", str(mountpoint), "--foreground", *arguments, "--metrics", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        lines = [process.stdout.readline() for _ in range(2)]
        url = lines[1].split()[1]
        with connected(url):
            process.terminate()
            assert process.wait(timeout=30) == 0


def test_connections_beyond_the_limit_end_the_oldest():
    server = MetricsServer("127.0.0.1", 0)
    server.start(lambda: {**Metrics().snapshot(), **cache()}, ABOUT)
    with ExitStack() as clients:
        held = [clients.enter_context(connected(server.url)) for _ in range(MAX_CLIENTS)]
        assert metrics_text(server.url)
        assert held[0].recv(1) == b""
        held[-1].sendall(b"GET / HTTP/1.0\r\n\r\n")
        assert held[-1].recv(9) == b"HTTP/1.0 "
    server.close()
    wait_until(lambda: all(thread.name != "metrics" for thread in threading.enumerate()))


def test_at_the_limit_of_open_files_the_server_waits_between_attempts(monkeypatch):
    accepted = TCPServer.get_request
    failures, pauses = [OSError(errno.EMFILE, "too many open files")], []

    def get_request(server):
        if failures:
            raise failures.pop()
        return accepted(server)

    monkeypatch.setattr(TCPServer, "get_request", get_request)
    monkeypatch.setattr("ego4dfs.mount.metrics_server.time.sleep", pauses.append)
    server = MetricsServer("127.0.0.1", 0)
    server.start(lambda: {**Metrics().snapshot(), **cache()}, ABOUT)
    assert metrics_text(server.url)
    server.close()
    assert len(pauses) == 1


def cache():
    return {"cache_bytes": 1, "cache_limit_bytes": 2, "cache_state": "ok"}


def test_a_mountpoint_of_any_characters_is_a_label():
    server = MetricsServer("127.0.0.1", 0)
    about = {"mountpoint": os.fsdecode(b'/a "b"\n\\\xff')}
    server.start(lambda: {**Metrics().snapshot(), **cache()}, about)
    found = samples(metrics_text(server.url))
    server.close()
    assert ("ego4dfs_mount_info", ('/a "b"\\n\\\\udcff',)) in found


def has_ipv6() -> bool:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


def test_the_address_may_be_of_ipv6():
    if not has_ipv6():
        return  # as in a container
    server = MetricsServer("::1", 0)
    assert server.url.startswith("http://[::1]:")
    server.start(lambda: {**Metrics().snapshot(), **cache()}, ABOUT)
    assert samples(metrics_text(server.url))
    server.close()


@pytest.mark.parametrize("host", ["no.such.host.invalid", "192.0.2.1", "x" * 70])
def test_an_address_of_another_machine_is_refused_in_one_line(host):
    with pytest.raises(ConfigError, match=rf"^--metrics {host}:9100: [^\n]+$"):
        MetricsServer(host, 9100)
