"""What a mount reports about the store: only after an answer, and with a remedy."""

from __future__ import annotations

import pytest

from ego4dfs.cli.store_state import describe_state, state_remedy
from ego4dfs.metrics import Metrics
from kit.gateway import Faults, Gateway
from kit.mounts import status


@pytest.fixture
def gateway(server):
    with Gateway(server.endpoint_url) as gateway:
        yield gateway


@pytest.fixture
def mount_output(cli, mount, release, gateway, tmp_path, libfuse):
    """Mount with cached manifests and a fault; return the root and stdout."""
    release.dataset("annotations", {"a.bin": b"x" * 1000})
    release.metadata(b"{}")
    arguments = ["--version", release.version, "--datasets", "annotations"]
    arguments += ["--endpoint-url", gateway.url, "--libfuse", libfuse]
    mount.unmount(mount(*arguments))

    def again():
        root = tmp_path / "mount0"
        return root, cli("mount", str(root), *arguments).stdout

    return again


def test_the_state_of_a_store_without_requests_is_unknown():
    found = Metrics().snapshot()
    assert describe_state(found) == "unknown: the store has not answered yet"
    assert (found["offline"], state_remedy(found)) == (False, "")


@pytest.mark.fuse
def test_a_store_that_answers_is_online_without_a_message(mount_output, cli):
    root, text = mount_output()
    assert "state" not in text
    assert status(root)["store"] == "online"
    assert "online" in cli("status", str(root)).stdout


@pytest.mark.fuse
@pytest.mark.fault(
    area="network",
    fault="a mount with cached manifests, without a network",
    face="mount, status",
    sees="it is mounted; `mount` and `status` say `offline` and the remedy",
    deadline="4 s",
)
def test_without_a_network_mount_and_status_say_so(mount_output, cli, gateway):
    gateway.stop()
    root, text = mount_output()
    assert "  state     offline: only what is cached can be read\n" in text
    assert "  remedy    check the network" in text
    shown = cli("status", str(root)).stdout
    assert "offline: only what is cached can be read" in shown
    assert "check the network" in shown


@pytest.mark.fuse
@pytest.mark.fault(
    area="keys",
    fault="a mount with cached manifests, with a key that is refused",
    face="mount, status",
    sees="it is mounted; `mount` and `status` say `key refused` and the remedy",
    deadline="4 s",
)
def test_with_a_refused_key_mount_and_status_say_so(mount_output, cli, gateway, server):
    gateway.faults = Faults(rejected_keys={server.licensee.access_key: "InvalidAccessKeyId"})
    root, text = mount_output()
    assert "  state     key refused: only what is cached can be read\n" in text
    assert "renew the key" in text
    assert "set the clock if it is wrong" in text
    assert status(root)["store"] == "key refused"
    assert "key refused: only what is cached" in cli("status", str(root)).stdout
