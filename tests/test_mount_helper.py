"""`mount -t fuse.ego4dfs`: mount(8) with its helper, and the helper with the words of mount(8)."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from kit.cli import complaint, without
from kit.mounts import is_mounted
from kit.namespaces import unshare

HELPER = [sys.executable, "-c", "from ego4dfs.cli import mount_helper as m; exit(m.main())"]
# A namespace in which /sbin has the helper too; mount(8) searches nowhere else.
IN_NAMESPACE = """
set -eu
target=$(readlink -f /sbin)
mount -t overlay -o "lowerdir=$1:$target" overlay "$target"
mount -T "$2" "$3"
grep -F " $3 fuse.ego4dfs ro," /proc/self/mounts
cat "$3/$4"
umount "$3"
"""


def helped(*words, env=None):
    variables = {**os.environ, **(env or {})}
    line = [*HELPER, *map(str, words)]
    return subprocess.run(
        line, env=variables, capture_output=True, text=True, check=False, timeout=60
    )


@pytest.mark.fuse
def test_mount_of_an_fstab_line_and_umount(release, licensee, tmp_path, libfuse):
    release.dataset("annotations", {"a.json": b"{}\n"})
    release.dataset("clips", {"b.json": b"{}\n"})
    mountpoint, sbin = tmp_path / "my ego4d", tmp_path / "sbin"
    mountpoint.mkdir()
    sbin.mkdir()
    helper = sbin / "mount.fuse.ego4dfs"
    helper.write_text(f"#!{sys.executable}\nfrom ego4dfs.cli import mount_helper as m\n")
    with helper.open("a") as script:
        script.write("raise SystemExit(m.main())\n")
    helper.chmod(0o755)
    keys = tmp_path / "credentials"
    names = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
    pairs = "".join(f"{name.lower()} = {licensee[name]}\n" for name in names)
    keys.write_text(f"[default]\n{pairs}")
    variables = {n: v for n, v in licensee.items() if n.startswith(("AWS_", "EGO4DFS_"))}
    variables = {**without(variables, *names), "AWS_SHARED_CREDENTIALS_FILE": str(keys)}
    options = [f"env.{name}={value}" for name, value in variables.items()]
    options += [f"version={release.version}", 'datasets="annotations,clips"']
    options += ["_netdev", "nofail", "noauto", "ro", "allow_other", f"libfuse={libfuse}"]
    options += ["x-systemd.automount", "nosuid", "nodev"]
    where = str(mountpoint).replace(" ", r"\040")
    table = tmp_path / "fstab"
    table.write_text(f"ego4d {where} fuse.ego4dfs {','.join(options)} 0 0\n")
    line = [*unshare("private"), "sh", "-c", IN_NAMESPACE.replace('" $3 ', '" $5 '), "sh"]
    words = [str(sbin), str(table), str(mountpoint), f"{release.version}/clips/b.json", where]
    bare = {"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [*line, *words], env=bare, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("{}\n")


@pytest.mark.fuse
def test_the_helper_is_silent_and_with_v_says_what_is_mounted(mount, release, tmp_path, libfuse):
    release.dataset("annotations", {"a.json": b"{}\n"})
    options = f"rw,version={release.version},datasets=annotations,libfuse={libfuse}"
    for number, more in enumerate([(), ("-v", "-t", "fuse.ego4dfs", "-s", "-n")]):
        mountpoint = tmp_path / f"{number}"
        mountpoint.mkdir()
        mount.adopt(mountpoint)
        done = helped("ego4d", mountpoint, *more, "-o", options)
        assert done.returncode == 0, done.stderr
        assert is_mounted(mountpoint)
        assert (f"Ego4D is at {mountpoint}" in done.stdout) == bool(more)


@pytest.mark.first_pass
@pytest.mark.parametrize(
    ("words", "code", "named"),
    [
        (("ego4d", "here", "-o", "ro,datsets=clips"), 1, "did you mean --datasets?"),
        (("ego4d", "here", "-o", "foreground"), 1, "-o foreground: not allowed here"),
        (("ego4d", "here", "-o", "list-datasets"), 1, "-o list-datasets: not allowed here"),
        *(
            (("ego4d", "here", "-o", short), 1, "not allowed here")
            for short in ("hel", "lis", "fore", "f", "output=/x")
        ),
        (("ego4d", "here", "-o", "output_directory=/x"), 1, "mountpoint is the second word"),
        (("ego4d", "here", "-o", "env.AWS_SESSION_TOKEN=x"), 1, "all users could read it"),
        (("ego4d", "here", "-o", "uid=1000"), 1, "-o uid: not allowed here"),
        (("s3://bucket/", "here"), 1, "there is only one source"),
        (("ego4d",), 1, "MOUNTPOINT"),
        (("ego4d", "/nowhere/at all", "-o", "rw"), 32, "/nowhere/at all"),
    ],
)
def test_what_is_wrong_is_one_clear_line_and_a_code_of_mount(tmp_path, words, code, named):
    done = helped(*words, env={"HOME": str(tmp_path)})
    assert done.returncode == code, done.stderr
    assert named in complaint(done)


@pytest.mark.first_pass
def test_the_installed_script_has_the_name_that_mount_looks_for():
    project = (Path(__file__).parent.parent / "pyproject.toml").read_text()
    assert '"mount.fuse.ego4dfs" = "ego4dfs.cli.mount_helper:main"' in project
