"""Many readers wait for the store: other calls are answered, and the mount ends in time."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress

import pytest

from ego4dfs.mount.fuse_loop import FuseLoop
from kit.cli import run_cli
from kit.data import MIB, seeded
from kit.gateway import Faults, Gateway
from kit.mounts import is_mounted, status
from kit.processes import is_running, wait_until

READERS = 24  # libfuse 3 has ten threads unless it is told otherwise
FAULTS = {
    "stalls": Faults(stall_s=300, only="/lost"),
    "trickles": Faults(piece_bytes=64, bytes_per_s=16, only="/lost"),
}


@pytest.fixture
def gateway(server):
    with Gateway(server.endpoint_url) as gateway:
        yield gateway


def read(path):
    with suppress(OSError), path.open("rb") as file:
        file.read(1)


@pytest.mark.fuse
@pytest.mark.fault(
    area="mount",
    fault="many readers of objects that stall or trickle",
    face="mount",
    sees="listings, sizes that are known, cached reads and `status` are still answered",
    deadline="0.5 s",
)
@pytest.mark.fault(
    area="mount",
    fault="SIGTERM while reads wait for the store",
    face="mount",
    sees="the mount and its process end; the reads fail",
    deadline="5 s",
)
@pytest.mark.parametrize("kind", FAULTS)
def test_waiting_readers_delay_neither_other_calls_nor_the_unmount(mount, release, gateway, kind):
    lost = {f"lost{number}.bin": b"x" * MIB for number in range(READERS)}
    release.dataset("annotations", {"good.bin": seeded("good", MIB), **lost})
    root = mount(
        *("--version", release.version, "--datasets", "annotations"),
        *("--endpoint-url", gateway.url),
    )
    directory = root / release.version / "annotations"
    good = directory / "good.bin"
    names = sorted(os.listdir(directory))
    for name in names:
        (directory / name).stat()
    assert good.read_bytes() == seeded("good", MIB)
    pid = status(root)["pid"]
    gateway.faults, before = FAULTS[kind], len(gateway.arrivals_s)
    readers = [threading.Thread(target=read, args=[directory / name], daemon=True) for name in lost]
    for reader in readers:
        reader.start()
    wait_until(lambda: len(gateway.arrivals_s) > before + READERS // 2)

    assert status(root)["pid"] == pid
    assert sorted(os.listdir(directory)) == names
    assert {(directory / name).stat().st_size for name in lost} == {MIB}
    with good.open("rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        assert file.read() == seeded("good", MIB)
    assert all(reader.is_alive() for reader in readers)

    os.kill(pid, signal.SIGTERM)
    wait_until(lambda: not is_running(pid), 20)  # reads fail by themselves after 24 s
    assert not is_mounted(root)
    for reader in readers:
        reader.join(60)
        assert not reader.is_alive()


@pytest.mark.fuse
@pytest.mark.fault(
    area="mount",
    fault="an unmount while requests of killed readers wait for the store",
    face="mount, unmount",
    sees="it is unmounted at once; its process ends after these requests",
    deadline="24 s",
)
def test_an_unmount_ends_a_process_with_abandoned_reads(mount, release, gateway):
    release.dataset("annotations", {"lost.bin": b"x" * MIB})
    flags = ("--version", release.version, "--datasets", "annotations")
    root = mount(*flags, "--endpoint-url", gateway.url)
    path = root / release.version / "annotations/lost.bin"
    assert path.stat().st_size == MIB
    pid = status(root)["pid"]
    gateway.faults, before = FAULTS["stalls"], len(gateway.arrivals_s)
    with subprocess.Popen(["cat", str(path)], stdout=subprocess.DEVNULL) as reader:
        wait_until(lambda: len(gateway.arrivals_s) > before)
        reader.kill()
    mount.unmount(root)
    assert not is_mounted(root)
    wait_until(lambda: not is_running(pid))


SESSION = """
import os, signal, sys, threading, time
from pathlib import Path
from ego4dfs.mount import fuse_loop
kind = sys.argv[1]
if kind != "loop ends":
    fuse_loop.GRACE_S, fuse_loop.END_S = 0.2, 0.6
wait = lambda: time.sleep(60)
close = wait if kind == "close hangs" else lambda: print("closed")
run = fuse_loop.FuseLoop(Path("/nowhere"), close)
marked = threading.Event()
run.started("", marked.set)
threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGTERM)).start()
run.run(marked.wait if kind == "loop ends" else wait)
print("ended")
"""


@pytest.mark.parametrize(
    ("kind", "printed"),
    [("loop ends", "ended\n"), ("loop hangs", ""), ("close hangs", "")],
)
def test_a_signal_ends_the_process_although_a_lower_layer_hangs(kind, printed):
    """A loop that receives the signal returns; else the process ends with code 0."""
    command = [sys.executable, "-c", SESSION, kind]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stdout.replace("closed\n", "")) == (0, printed), done.stderr


@pytest.fixture
def signals():
    """Restore the handlers of signals."""
    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1)
    before = {number: signal.getsignal(number) for number in numbers}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.fault(
    area="mount",
    fault="another mount is made while this one has reached its limit of open files",
    face="mount",
    sees="nothing",
    deadline="at once",
)
@pytest.mark.usefixtures("signals")
def test_a_change_of_mounts_needs_no_further_descriptor(tmp_path, monkeypatch):
    noticed = threading.Event()

    def refuse(*_arguments):
        noticed.set()
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    def session():
        for words in (["mount", "-t", "tmpfs", "tmpfs"], ["umount"]):
            subprocess.run([*words, str(tmp_path)], check=True)
        assert noticed.wait(60)

    monkeypatch.setattr("ego4dfs.mount.fuse_loop.mounts", refuse)
    monkeypatch.setattr("ego4dfs.mount.fuse_loop._fuse_device", refuse)
    loop = FuseLoop(tmp_path, lambda: None)
    loop.started("0:0", lambda: None)
    loop.run(session)


def test_the_loop_is_not_asked_to_exit_once_libfuse_frees_its_memory(tmp_path):
    """`fuse_exit` of libfuse 2 calls a function by a pointer in that memory."""
    exits, loop = [], FuseLoop(tmp_path, lambda: None)

    def session():
        loop.started("0:0", lambda: exits.append(1))
        os.write(loop._wake_writer, b"s")  # as at a signal
        wait_until(lambda: exits)
        loop.destroyed()
        count = len(exits)
        time.sleep(0.5)  # several times as long as between two calls
        assert len(exits) == count

    loop.run(session)
    assert exits


SAID_DESTROYED = """
from ego4dfs.cli import main
from ego4dfs.mount.fuse_loop import FuseLoop
forget = FuseLoop.destroyed
FuseLoop.destroyed = lambda loop: print("destroyed", flush=True) or forget(loop)
raise SystemExit(main())
"""


@pytest.mark.fuse
@pytest.mark.parametrize("ends_by", ["signal", "unmount"])
def test_each_libfuse_says_that_it_ends(
    mount, release, spawn, licensee, libfuse, tmp_path, ends_by
):
    release.dataset("annotations", {"a.bin": b"a"})
    mountpoint = tmp_path / "here"
    mountpoint.mkdir()
    words = ["mount", "-f", str(mountpoint), "--libfuse", libfuse, "--version", release.version]
    command = [sys.executable, "-c", SAID_DESTROYED, *words, "--datasets", "annotations"]
    mount.adopt(mountpoint)
    run = spawn(command, env={**os.environ, **licensee}, stdout=subprocess.PIPE, text=True)
    wait_until(lambda: is_mounted(mountpoint))
    if ends_by == "signal":
        run.terminate()
    else:
        run_cli("unmount", str(mountpoint))
    output, _ = run.communicate(timeout=60)
    assert (run.returncode, output.splitlines()[-1]) == (0, "destroyed")


def test_a_signal_ends_the_mount_also_where_no_thread_is_available(monkeypatch, tmp_path):
    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    loop = FuseLoop(tmp_path, lambda: None)
    loop._note_signal(signal.SIGTERM, None)
    assert os.read(loop._wake_reader, 10) == b"s"
    os.close(loop._wake_reader)
    os.close(loop._wake_writer)
