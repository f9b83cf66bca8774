"""Mounting as an ordinary user, and on machines that lack something: in a namespace of its own."""

from __future__ import annotations

import json
import os
import shutil

import pytest

from kit.cli import complaint
from kit.namespaces import Namespace
from kit.processes import wait_until

pytestmark = pytest.mark.fuse

NO_DEVICE = (
    "mount -t tmpfs tmpfs /dev && mknod -m 666 /dev/null c 1 3 && mknod -m 666 /dev/urandom c 1 9"
)
NO_LIBRARY = (
    "ldconfig -p | awk '/libfuse/ {print $NF}'"
    ' | while read -r library; do mount --bind /dev/null "$library"; done'
)
ALLOW_OTHER = (
    "echo user_allow_other > $stage/fuse.conf && mount --bind $stage/fuse.conf /etc/fuse.conf"
)
NO_MTAB = (
    "mkdir $stage/etc && cp -a /etc/. $stage/etc/ && rm -f $stage/etc/mtab"
    " && mount --bind $stage/etc /etc"
)
PLAIN_FUSERMOUNT = (
    "cp /usr/bin/fusermount3 $stage/plain && chmod 755 $stage/plain"
    " && mount --bind $stage/plain /usr/bin/fusermount3"
)
SOMEBODYS = "mount -t tmpfs tmpfs /mnt && mkdir -m 755 /mnt/theirs && mkdir -m 700 /mnt/secret"


class Person:
    """An ordinary user with a home, a mountpoint and a licence."""

    def __init__(self, namespace: Namespace, env: dict[str, str], version: str) -> None:
        self.namespace = namespace
        self.home = namespace.directory
        self.env = {**env, "HOME": str(self.home)}
        del self.env["EGO4DFS_CACHE_DIR"]
        self.version = version
        self.mountpoint = self.home / "ego4d"
        self.run("mkdir", self.mountpoint)

    def run(self, *command, **env):
        return self.namespace.run(*command, env={**self.env, **env})

    def mount(self, *arguments):
        words = ("mount", self.mountpoint, "--datasets", "annotations", "--version", self.version)
        return self.run("ego4dfs", *words, *arguments)

    def refusal(self, *arguments, code, mountpoint=None, **env) -> str:
        """Return why a mount is refused, once nothing of it is left."""
        done = self.run("ego4dfs", "mount", mountpoint or self.mountpoint, *arguments, **env)
        output = complaint(done)
        assert done.returncode == code, output
        assert self.namespace.mounted() == []
        assert self.namespace.processes() == []
        return output.replace(str(self.home), "~")


@pytest.fixture
def person(tmp_path_factory, licensee, release):
    """Make a Person in a namespace that `setup` changes."""
    release.dataset("annotations", {"narration.json": b"{}\n"})
    namespaces = []

    def make(setup: str = "") -> Person:
        namespaces.append(Namespace(tmp_path_factory.mktemp("person") / "home", setup))
        return Person(namespaces[-1], licensee, release.version)

    yield make
    for namespace in namespaces:
        namespace.close()


@pytest.mark.parametrize("version", ["2", "3"])
def test_an_ordinary_user_mounts_reads_and_unmounts(person, version):
    me = person()
    done = me.mount("--libfuse", version)
    assert done.returncode == 0, done.stderr
    assert me.namespace.mounted() == [str(me.mountpoint)]
    path = me.mountpoint / me.version / "annotations/narration.json"
    assert me.run("cat", path).stdout == "{}\n"
    assert me.run("stat", "-c", "%U %G %a", path).stdout == "nobody nogroup 644\n"
    assert "Read-only file system" in me.run("touch", me.mountpoint / "x").stderr
    assert "Read-only file system" in me.run("sh", "-c", f"echo >> {path}").stderr
    assert me.run("ego4dfs", "status", me.mountpoint).returncode == 0
    done = me.run("ego4dfs", "unmount", me.mountpoint)
    assert (done.returncode, done.stderr) == (0, "")
    assert me.namespace.mounted() == []
    assert me.namespace.processes() == []


def test_the_cache_is_in_the_home_and_for_its_owner_only(person):
    me = person()
    assert me.mount().returncode == 0
    listing = me.run("find", me.home / ".cache/ego4dfs", "-maxdepth", "0", "-printf", "%m %u")
    assert listing.stdout == "700 nobody"
    assert me.run("ego4dfs", "unmount", me.mountpoint).returncode == 0


def test_another_users_mount_is_distinguished_from_a_dead_one(person):
    me = person()
    assert me.mount().returncode == 0
    if os.geteuid() == 0:
        done = me.namespace.run("ego4dfs", "status", me.mountpoint, env=me.env, root=True)
        assert "Permission denied" in complaint(done)
        assert "--allow-other" in done.stderr
    assert me.run("ego4dfs", "unmount", me.mountpoint).returncode == 0


def test_allow_other_is_refused_where_root_does_not_permit_it(person):
    output = person().refusal("--allow-other", code=5)
    assert "--allow-other: /etc/fuse.conf does not permit it" in output
    assert "user_allow_other" in output


@pytest.mark.parametrize("version", ["2", "3"])
def test_allow_other_shows_the_mount_to_others_where_root_permits_it(person, version):
    me = person(ALLOW_OTHER)
    done = me.mount("--allow-other", "--libfuse", version)
    assert done.returncode == 0, done.stderr
    path = me.mountpoint / me.version / "annotations/narration.json"
    assert me.namespace.run("cat", path, root=True).stdout == "{}\n"


def test_a_mount_in_the_background_has_a_session_of_its_own(person):
    """Ctrl-C and the end of the terminal do not reach it; SIGTERM does."""
    me = person()
    assert me.mount().returncode == 0
    [pid] = me.namespace.processes()
    assert os.getsid(pid) not in {pid, os.getsid(0)}
    assert os.path.samefile(f"/proc/{pid}/cwd", "/")  # in a chroot its path is longer
    os.kill(pid, 15)
    wait_until(lambda: not me.namespace.processes())
    assert me.namespace.mounted() == []


def test_a_machine_without_the_fuse_device_says_how_to_get_it(person):
    output = person(NO_DEVICE).refusal(code=5)
    assert "/dev/fuse does not exist" in output
    assert "modprobe fuse" in output
    assert "--device /dev/fuse" in output


@pytest.mark.parametrize(
    ("setup", "row"), [(NO_DEVICE, "FUSE device"), (NO_LIBRARY, "libfuse")], ids=["device", "lib"]
)
def test_the_doctor_says_what_a_machine_lacks(person, setup, row):
    me = person(setup)
    done = me.run(
        *("ego4dfs", "doctor", "--json", "--version", me.version, "--datasets", "annotations")
    )
    assert done.returncode == 5, done.stderr
    rows = {found["check"]: found for found in json.loads(done.stdout)}
    assert rows[row]["state"] == "fail"
    assert rows[row]["remedy"]
    assert rows["annotations"]["state"] == "ok"


def test_a_device_that_is_not_for_users_says_so(person):
    output = person("chmod 600 /dev/fuse").refusal(code=5)
    assert "/dev/fuse: you have no permission to open it" in output


@pytest.mark.parametrize(
    ("arguments", "missing", "packages"),
    [
        ((), "libfuse 3 or 2 is not", "apt-get install fuse3 or apt-get install libfuse2"),
        (("--libfuse", "2"), "libfuse 2 is not", "apt-get install libfuse2"),
        (("--libfuse", "3"), "libfuse 3 is not", "apt-get install fuse3"),
    ],
)
def test_a_machine_without_libfuse_says_what_to_install(person, arguments, missing, packages):
    output = person(NO_LIBRARY).refusal(*arguments, code=5)
    assert missing in output
    assert packages in output


@pytest.mark.parametrize(("version", "program"), [("2", "fusermount"), ("3", "fusermount3")])
def test_a_machine_without_fusermount_says_what_to_install(person, version, program):
    me = person()
    me.run("mkdir", me.home / "bin")
    output = me.refusal("--libfuse", version, code=5, PATH=str(me.home / "bin"))
    assert f"{program} is not on PATH, and only root can mount without it" in output
    assert "apt-get install fuse" in output


@pytest.mark.fault(
    area="mount",
    fault="a machine without /etc/mtab, where fusermount can unmount nothing",
    face="mount, doctor",
    sees="the mount is refused with the remedy",
    deadline="at once",
)
def test_a_mount_that_could_not_be_unmounted_is_refused(person):
    me = person(NO_MTAB)
    output = me.refusal(code=5)
    assert "/etc/mtab does not exist, and fusermount3 cannot unmount without it" in output
    assert "as root: ln -s /proc/self/mounts /etc/mtab" in output
    rows = json.loads(me.run("ego4dfs", "doctor", "--json", "--datasets", "annotations").stdout)
    [row] = [row for row in rows if row["check"] == "permission to mount"]
    assert row["state"] == "fail"


@pytest.mark.fault(
    area="mount",
    fault="fusermount that cannot act as root",
    face="mount",
    sees="fusermount's message, and what to do",
    deadline="at once",
)
def test_the_output_of_fusermount_is_in_the_message(person):
    me = person(PLAIN_FUSERMOUNT)
    output = me.refusal("--datasets", "annotations", "--version", me.version, code=5)
    assert "could not mount (fusermount3: mount failed: Operation not permitted)" in output
    assert "fusermount3 is not set-uid root; as root: chmod u+s" in output


def test_root_needs_no_fusermount(licensee, mount, release, tmp_path, libfuse):
    release.dataset("annotations", {"narration.json": b"{}\n"})
    (tmp_path / "bin").mkdir()
    for program in ("umount", "weed"):
        if found := shutil.which(program):
            (tmp_path / "bin" / program).symlink_to(found)
    env = {**licensee, "PATH": str(tmp_path / "bin")}
    mounted = mount("--version", release.version, "--datasets", "annotations", env=env)
    assert (mounted / release.version / "annotations/narration.json").read_bytes() == b"{}\n"


@pytest.mark.parametrize(
    ("path", "wanted"),
    [
        ("/mnt/theirs", "/mnt/theirs: fusermount needs write permission for the directory"),
        ("/mnt/secret", "/mnt/secret: you have no permission to read it"),
        ("/mnt/secret/below", "/mnt/secret/below: Permission denied"),
    ],
)
def test_a_mountpoint_of_somebody_else_is_named(person, path, wanted):
    assert wanted in person(SOMEBODYS).refusal(code=5, mountpoint=path)


def test_a_cache_directory_of_somebody_else_is_named(person):
    output = person(SOMEBODYS).refusal("--cache-dir", "/mnt/secret/cache", code=1)
    assert "cache directory /mnt/secret/cache: permission denied" in output
    assert "--cache-dir" in output


def test_a_home_that_cannot_be_written_is_named(person):
    output = person().refusal(code=1, HOME="/proc")
    assert "cache directory /proc/.cache/ego4dfs" in output
