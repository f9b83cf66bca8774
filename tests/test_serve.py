"""`ego4dfs serve` as a program: its address, its end, and the programs that read from it."""

from __future__ import annotations

import functools
import io
import os
import signal
import socket
import struct
import subprocess
import threading
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import av
import fsspec
import pytest

from kit import media
from kit.cli import complaint, run_cli, unwarned
from kit.data import MIB, seeded
from kit.processes import wait_until
from kit.web import Client, server_process

pytestmark = pytest.mark.first_pass

LARGE = seeded("serve", 2 * MIB + 5)


@pytest.fixture
def arguments(licensee, release) -> list[str]:
    release.metadata(b"{}")
    release.dataset("full_scale", {"aaaa.mp4": media.form("index at the end"), "b.bin": LARGE})
    return ["--version", release.version, "--datasets", "full_scale"]


serving = functools.partial(server_process, "serve")


@pytest.fixture
def base(arguments, release):
    with serving(*arguments, "--bind", "0") as (_, url):
        yield f"{url}{release.version}/full_scale"


@contextmanager
def stalled(url: str, path: str):
    """Ask for a file and take nothing of it but its first bytes."""
    with closing(Client.of(url).sent(path)) as connection:
        assert connection.recv(100).startswith(b"HTTP/1.1 200 OK")
        yield


@pytest.mark.parametrize("numbers", [[signal.SIGINT], [signal.SIGTERM], [signal.SIGINT] * 2])
def test_it_ends_by_a_signal_while_a_client_takes_nothing(arguments, release, numbers):
    release.dataset("full_scale", {"stalled.bin": bytes(16 * MIB)})
    with serving(*arguments, "--bind", "0") as (process, url):
        with stalled(url, f"{release.version}/full_scale/stalled.bin"):
            for number in numbers:
                process.send_signal(number)
            assert process.wait(60) == 0
        assert unwarned(process.stderr.read()) == ""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_it_ends_by_a_signal_after_its_last_line(arguments, number):
    """Before the server handles signals."""
    for _ in range(2):
        with serving(*arguments, "--bind", "0") as (process, _):
            while not process.stdout.readline().startswith("Everybody"):
                pass
            process.send_signal(number)
            assert process.wait(60) == 0
            assert unwarned(process.stderr.read()) == ""


def test_a_server_that_nohup_has_started_outlives_its_terminal(arguments):
    ignoring = ["sh", "-c", 'trap "" HUP; exec "$@"', "sh"]
    with serving(*arguments, "--bind", "0", before=ignoring) as (process, url):
        process.send_signal(signal.SIGHUP)
        assert Client.of(url).get("").status == 200
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0


@pytest.mark.fault(
    area="processes",
    fault="the limit of open files is reached by connections",
    face="serve, browse",
    sees="503 or a closed connection for the others, one line on standard error, and answers again"
    " after connections were closed",
    deadline="a second",
)
def test_connections_beyond_the_limit_of_open_files_are_refused(arguments):
    limited = ["sh", "-c", 'ulimit -n 100; exec "$@"', "sh"]
    with serving(*arguments, "--bind", "0", before=limited) as (process, url):
        client = Client.of(url)
        assert client.get("").status == 200
        with ExitStack() as stack:
            for _ in range(120):
                address = ("127.0.0.1", client.port)
                stack.enter_context(closing(socket.create_connection(address)))
            for _ in range(2):
                for _ in range(3):  # ended without an answer: the next client gets one
                    with socket.create_connection(("127.0.0.1", client.port)) as ended:
                        ended.setsockopt(
                            socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
                        )
                assert client.get("").status == 503
        wait_until(lambda: client.get("").status == 200)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
        [line] = unwarned(process.stderr.read()).strip().split("\n")
    assert "connections are refused: too many open files" in line
    assert "ulimit -n" in line


def test_the_address_has_a_token_that_no_list_of_processes_shows(arguments, tmp_path):
    file = tmp_path / "token"
    file.write_text("a-secret-of-mine\n")
    with serving(*arguments, "--bind", "0", "--token", str(file)) as (process, url):
        assert url.endswith("/a-secret-of-mine/")
        assert b"secret" not in Path(f"/proc/{process.pid}/cmdline").read_bytes()
        assert Client.of(url).get("").status == 200
        assert Client.of(url).raw("/").status == 403
    with (
        serving(*arguments, "--bind", "0") as (_, first),
        serving(*arguments, "--bind", "0", "--token") as (_, second),
    ):
        tokens = {Client.of(url).base for url in (first, second)}
        assert len(tokens) == 2
        assert min(map(len, tokens)) >= 20


def test_without_a_token_it_serves_at_the_root(arguments, release):
    with serving(*arguments, "--bind", "127.0.0.1:0", "--no-token") as (_, url):
        assert url.count("/") == 3
        assert release.version in Client.of(url).get("").body.decode()


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--bind", "0.0.0.0:0"], "others reach this address"),
        (["--bind", "[::]:0"], "others reach this address"),
        (["--bind", "example.org:0"], "others reach this address"),
        (["--bind", "127.0.0.1:70000"], "--bind"),
        (["--bind", ""], "no address"),
        (["--bind", "192.0.2.1:0", "--token"], "cannot assign"),
        (["--token", "{file}"], "no token that fits into a url"),
        (["--token", "{file}x"], "no such file"),
        (["--token", "--no-token"], "not allowed with"),
    ],
)
def test_an_address_or_token_that_cannot_be_used_is_reported(arguments, words, text, tmp_path):
    file = tmp_path / "token"
    file.write_text("a/b c\n")
    done = run_cli("serve", *arguments, *[w.format(file=file) for w in words], check=False)
    assert done.returncode == 2
    assert text in complaint(done).lower()


def test_an_address_in_use_is_reported_before_anything_is_fetched(arguments, base):
    port = base.partition("//")[2].partition(":")[2].partition("/")[0]
    done = run_cli("serve", *arguments, "--bind", port, check=False)
    assert (done.returncode, "address already in use" in complaint(done)) == (2, True)


def test_the_extra_is_named_if_it_is_missing(arguments, tmp_path):
    (tmp_path / "uvicorn.py").write_text("raise ImportError(name='uvicorn')")
    env = {**os.environ, "PYTHONPATH": f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}"}
    done = run_cli("serve", *arguments, check=False, env=env)
    assert done.returncode == 2
    assert "pip install 'ego4dfs[browse]'" in complaint(done)


def test_fsspec_lists_and_reads(base):
    http = fsspec.filesystem("http", skip_instance_cache=True)
    names = {entry["name"].rpartition("/")[2] for entry in http.ls(f"{base}/")}
    assert {"aaaa.mp4", "b.bin", "manifest.csv"} <= names
    with http.open(f"{base}/b.bin") as file:
        file.seek(MIB)
        assert file.read(1000) == LARGE[MIB : MIB + 1000]
    assert http.cat_file(f"{base}/b.bin") == LARGE


def test_pictures_are_read_from_a_position(base):
    def shown(source):
        with av.open(source) as video:
            video.seek(1_000_000)
            return [frame.to_ndarray(format="gray").tobytes() for frame in video.decode(video=0)]

    assert shown(f"{base}/aaaa.mp4") == shown(io.BytesIO(media.form("index at the end")))


@pytest.mark.program("curl")
def test_curl_continues_a_download(base, tmp_path):
    file = tmp_path / "b.bin"
    file.write_bytes(LARGE[:1_000_000])
    subprocess.run(["curl", "-sS", "-f", "-C", "-", "-o", file, f"{base}/b.bin"], check=True)
    assert file.read_bytes() == LARGE


@pytest.mark.program("rclone")
def test_rclone_copies_a_directory(base, tmp_path):
    done = subprocess.run(
        ["rclone", "copy", f":http,url='{base}/':", tmp_path / "copy"],
        env={**os.environ, "RCLONE_CONFIG": str(tmp_path / "none")},
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "copy" / "b.bin").read_bytes() == LARGE
    assert (tmp_path / "copy" / "aaaa.mp4").read_bytes() == media.form("index at the end")


def test_fifty_clients_at_once_get_the_right_bytes(base):
    found = []

    def read(number):
        start = number * 40_000
        answer = Client.of(base).get("/b.bin", Range=f"bytes={start}-")
        found.append((answer.status, answer.body == LARGE[start:]))

    threads = [threading.Thread(target=read, args=[number]) for number in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [(206, True)] * 50
