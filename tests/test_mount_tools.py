"""Nothing can be written into a mount, and the usual tools work as on a download."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from kit.data import MIB
from kit.mounts import SharedMount

pytestmark = pytest.mark.fuse


def write_calls(shared_mount: SharedMount, tmp_path: Path) -> dict[str, Callable[[], object]]:
    file, new = shared_mount.directory / "odd.pt", shared_mount.directory / "new"
    return {
        "create": lambda: os.open(new, os.O_CREAT | os.O_WRONLY),
        "create in the root": lambda: os.open(shared_mount.root / "new", os.O_CREAT | os.O_WRONLY),
        "open for writing": lambda: os.open(file, os.O_WRONLY),
        "open for both": lambda: os.open(file, os.O_RDWR),
        "append": lambda: os.open(file, os.O_WRONLY | os.O_APPEND),
        "open and truncate": lambda: os.open(file, os.O_RDONLY | os.O_TRUNC),
        "truncate": lambda: os.truncate(file, 0),
        "unlink": lambda: os.unlink(file),
        "rename": lambda: os.rename(file, new),
        "rename a directory": lambda: os.rename(
            shared_mount.directory, shared_mount.root / "other"
        ),
        "mkdir": lambda: os.mkdir(new),
        "rmdir": lambda: os.rmdir(shared_mount.directory),
        "link": lambda: os.link(file, new),
        "symlink": lambda: os.symlink("odd.pt", new),
        "chmod": lambda: os.chmod(file, 0o644),
        "chown": lambda: os.chown(file, 1, 1),
        "utime": lambda: os.utime(file),
        "utime of a directory": lambda: os.utime(shared_mount.directory, (1, 1)),
        "setxattr": lambda: os.setxattr(file, "user.x", b"1"),
        "removexattr": lambda: os.removexattr(file, "user.ego4dfs.etag"),
        "mknod": lambda: os.mknod(new, stat.S_IFREG | 0o600),
        "mkfifo": lambda: os.mkfifo(new),
        "write into the counters": lambda: os.open(
            shared_mount.root / ".ego4dfs/status.json", os.O_WRONLY
        ),
    }


def test_every_kind_of_write_is_refused_as_on_a_read_only_filesystem(shared_mount, tmp_path):
    for name, call in write_calls(shared_mount, tmp_path).items():
        with pytest.raises(OSError, match="Read-only") as caught:
            call()
        assert caught.value.errno == errno.EROFS, name


def test_a_file_open_for_reading_cannot_be_changed_through_its_descriptor(shared_mount):
    fd = os.open(shared_mount.directory / "odd.pt", os.O_RDONLY)
    try:
        with pytest.raises(OSError, match="Invalid") as caught:
            os.ftruncate(fd, 0)  # what Linux says of every descriptor that is not for writing
        assert caught.value.errno == errno.EINVAL
        with pytest.raises(OSError, match="Bad file") as caught:
            os.write(fd, b"x")
        for change in (lambda: os.fchmod(fd, 0o644), lambda: os.fchown(fd, 1, 1)):
            with pytest.raises(OSError, match="Read-only"):
                change()
    finally:
        os.close(fd)


def run(command: str, cwd: Path, **names: object) -> str:
    """Run a shell line that must succeed without output on stderr; return its output."""
    line = command.format(**names)
    done = subprocess.run(["sh", "-c", line], cwd=cwd, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, ""), line
    return done.stdout


def test_the_usual_tools_have_the_same_results_as_in_a_download(shared_mount, tmp_path):
    copy = tmp_path / "copy"
    run("cp -rp {root} {copy}", tmp_path, root=shared_mount.root, copy=copy)
    for name, data in shared_mount.files.items():
        assert (copy / shared_mount.release.version / "annotations" / name).read_bytes() == data
    names = {"root": shared_mount.root, "copy": copy, "there": shared_mount.directory}
    assert run("diff -r {root} {copy}", tmp_path, **names) == ""
    assert run("rsync -rtnic {root}/ {copy}/", tmp_path, **names) == ""
    listing = "find . | sort"
    assert (
        run(listing, shared_mount.root) == run(listing, copy) == run("find . -noleaf | sort", copy)
    )
    sizes = "find . -type f -printf '%s %P %TY%Tm%Td%TH%TM\\n' | sort"
    assert run(sizes, shared_mount.root) == run(sizes, copy)
    assert run("du -s --apparent-size -B1 *.pt", shared_mount.directory).split()[0] == str(
        3 * MIB + 17
    )
    (tmp_path / "sums").write_text(
        "".join(f"{hashlib.md5(d).hexdigest()}  {n}\n" for n, d in shared_mount.files.items())  # noqa: S324
    )
    assert (
        run("md5sum -c {sums}", shared_mount.directory, sums=tmp_path / "sums").count(": OK\n") == 5
    )
    assert run("grep -c needle narration.json", shared_mount.directory) == "1\n"
    assert (
        run("grep -rl needle {root}", tmp_path, **names)
        == f"{shared_mount.directory}/narration.json\n"
    )
    head = run("head -c 100 odd.pt | od -An -v -tx1", shared_mount.directory)
    assert (
        bytes.fromhex(head.replace("\n", "").replace(" ", "")) == shared_mount.files["odd.pt"][:100]
    )
    tail = run("tail -c 100 large.mp4 | od -An -v -tx1", shared_mount.directory)
    assert (
        bytes.fromhex(tail.replace("\n", "").replace(" ", ""))
        == shared_mount.files["large.mp4"][-100:]
    )
    run("tar -cf {copy}.tar -C {root} . && tar -df {copy}.tar -C {root}", tmp_path, **names)
    assert run("wc -c < nothing.json", shared_mount.directory).strip() == "0"


@pytest.mark.fault(
    area="mount",
    fault="modes that `cp -r` or `shutil.copytree` copies",
    face="mount",
    sees="copies that their owner can change, copy over and remove",
    deadline="at once",
)
def test_copies_can_be_changed_copied_over_and_removed(shared_mount, tmp_path):
    """`cp -r` and copytree copy modes: the owner of a copy must be able to write it."""
    copy = tmp_path / "copy"
    for _ in range(2):
        shutil.copytree(shared_mount.directory, copy, dirs_exist_ok=True)
    found = [copy, *copy.rglob("*")]
    assert {path.stat().st_mode & 0o777 for path in found if path.is_dir()} == {0o755}
    assert {path.stat().st_mode & 0o777 for path in found if path.is_file()} == {0o644}


def test_a_name_that_is_too_long_fails_with_enametoolong(shared_mount):
    with pytest.raises(OSError, match="too long") as caught:
        os.stat(shared_mount.directory / ("x" * 256))
    assert caught.value.errno == errno.ENAMETOOLONG
    with pytest.raises(FileNotFoundError):
        os.stat(shared_mount.directory / ("x" * 255))
