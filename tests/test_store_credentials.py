"""Whose keys are used, when they are read, and what a refusal says."""

from __future__ import annotations

import datetime as dt
import json
import stat
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import botocore.session
import pytest
from botocore.credentials import RefreshableCredentials

from ego4dfs.errors import ConfigError, CredentialsRejected, StoreUnavailable
from ego4dfs.store import aws_config_files, aws_credential_chain, credentials
from ego4dfs.store.aws_config_files import Keys
from ego4dfs.store.aws_credential_chain import RenewingKeys
from ego4dfs.store.credentials import Credentials
from ego4dfs.store.diagnose import key_origin
from kit.processes import is_running, wait_until

if TYPE_CHECKING:
    from kit.stores import Aws

SECRET = "never/to+be/SEEN0123456789abcdefghijklmn"  # noqa: S105 - made up
PAIR = "aws_access_key_id = {0}\naws_secret_access_key = {0}-secret\n"


def botocores(profile: str) -> Keys | None:
    """The credentials that botocore finds."""
    found = botocore.session.Session(profile=profile or None).get_credentials()
    if found is None:
        return None
    now = found.get_frozen_credentials()
    return Keys(now.access_key, now.secret_key, now.token or "")


@pytest.mark.parametrize(
    ("variables", "credentials", "config", "profile"),
    [
        ({"AWS_ACCESS_KEY_ID": "E", "AWS_SECRET_ACCESS_KEY": "s"}, "", "", ""),
        (
            {
                "AWS_ACCESS_KEY_ID": "E",
                "AWS_SECRET_ACCESS_KEY": "s",
                "AWS_SESSION_TOKEN": "t",
            },
            "",
            "",
            "",
        ),
        (
            {"AWS_ACCESS_KEY_ID": "E", "AWS_SECRET_ACCESS_KEY": "s"},
            "[default]\n" + PAIR.format("F"),
            "",
            "",
        ),
        (
            {"AWS_ACCESS_KEY_ID": "E", "AWS_SECRET_ACCESS_KEY": "s"},
            "[ego4d]\n" + PAIR.format("F"),
            "",
            "ego4d",
        ),
        ({}, "[default]\n" + PAIR.format("F"), "[default]\nregion = eu-west-1\n", ""),
        ({}, "[default]\n" + PAIR.format("F") + "aws_session_token = t\n", "", ""),
        ({}, "[ego4d]\n" + PAIR.format("F"), "[profile ego4d]\noutput = json\n", "ego4d"),
        ({}, "[my ego4d]\n" + PAIR.format("F"), '[profile "my ego4d"]\nregion = x\n', "my ego4d"),
        ({"AWS_PROFILE": "ego4d"}, "[ego4d]\n" + PAIR.format("F"), "", ""),
        ({}, "[default]\n" + PAIR.format("F"), "[default]\n" + PAIR.format("C"), ""),
        ({}, "", "[default]\n" + PAIR.format("C"), ""),
        (
            {},
            "[default]\n" + PAIR.format("F"),
            "[default]\ns3 =\n  max_concurrent_requests = 4\n",
            "",
        ),
        ({}, "[default]\naws_access_key_id = F\n# half of a key\n", "", "default"),
        ({}, "", "", ""),
    ],
)
def test_plain_settings_are_read_as_by_botocore(
    aws: Aws, variables: dict[str, str], credentials: str, config: str, profile: str
) -> None:
    aws.variables(**variables)
    aws.credentials(credentials)
    aws.config(config)
    ours = aws_config_files.plain_keys(profile)
    if ours is not None:
        assert ours == botocores(profile)


@pytest.mark.parametrize(
    "config",
    [
        "[default]\nrole_arn = arn:aws:iam::1:role/x\nsource_profile = other\n",
        "[default]\ncredential_process = /bin/true\n",
        "[default]\nsso_session = x\n",
        "[default]\nanything_new = x\n",
    ],
)
def test_other_settings_are_read_by_botocore(aws: Aws, config: str) -> None:
    aws.credentials("[default]\n" + PAIR.format("F"))
    aws.config(config)
    assert aws_config_files.plain_keys("") is None


def test_files_can_be_elsewhere(aws: Aws, tmp_path: Path) -> None:
    (tmp_path / "keys").write_text("[default]\n" + PAIR.format("E"))
    aws.variables(AWS_SHARED_CREDENTIALS_FILE=str(tmp_path / "keys"))
    assert Credentials().keys() == botocores("") == Keys("E", "E-secret")


def test_plain_keys_cost_no_import(aws: Aws) -> None:
    """Importing botocore takes longer than everything else before the first byte."""
    aws.credentials("[default]\n" + PAIR.format("F"))
    code = (
        "import sys; from ego4dfs.store.credentials import Credentials; Credentials().keys();"
        "sys.exit('botocore' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_without_a_key_the_error_has_a_remedy(aws: Aws) -> None:
    with pytest.raises(CredentialsRejected, match="no access key") as caught:
        Credentials().keys()
    assert "aws configure" in caught.value.hint


def test_a_missing_profile_is_named_with_those_that_exist(aws: Aws) -> None:
    aws.keys("F", "s", profile="work")
    with pytest.raises(ConfigError, match=r"'ego4d' does not exist \(existing profiles: work\)"):
        Credentials("ego4d").keys()


def test_a_missing_profile_of_the_environment_is_named_too(aws: Aws) -> None:
    aws.variables(AWS_PROFILE="gone")
    with pytest.raises(ConfigError, match="'gone' does not exist"):
        Credentials().keys()


def test_a_profile_without_keys_is_named(aws: Aws) -> None:
    aws.config("[profile ego4d]\nregion = us-west-2\n")
    with pytest.raises(CredentialsRejected, match="no access key in profile 'ego4d'"):
        Credentials("ego4d").keys()


@pytest.mark.parametrize("config", ["", "[default]\nregion = us-west-2\n"])
def test_profile_default_without_keys_is_the_normal_chain(aws: Aws, config: str) -> None:
    """The official tool always passes `default`; it must not exclude the environment."""
    aws.config(config)
    aws.variables(AWS_ACCESS_KEY_ID="E", AWS_SECRET_ACCESS_KEY="s")  # noqa: S106 - made up
    assert Credentials("default").keys() == Keys("E", "s")


def test_keys_are_not_printed(aws: Aws) -> None:
    aws.keys("F", SECRET)
    found = Credentials()
    assert SECRET not in f"{found.keys()!r} {found!r} {vars(found)}"


def test_an_incomplete_key_is_not_used(aws: Aws) -> None:
    aws.variables(AWS_ACCESS_KEY_ID="E")
    with pytest.raises(CredentialsRejected):
        Credentials().keys()


def process(aws: Aws, tmp_path: Path, expiration: str) -> Path:
    """Make the chain end in a process that counts its calls and returns another key each time."""
    script, calls = tmp_path / "process", tmp_path / "calls"
    document = {"Version": 1, "SecretAccessKey": "s", "SessionToken": "t", "Expiration": expiration}
    script.write_text(
        f"#!/bin/sh\necho >> {calls}\n"
        f"n=$(wc -l < {calls})\n"
        f"echo '{json.dumps(document)[:-1]}, \"AccessKeyId\": \"K'$n'\"}}'\n"
    )
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    aws.config(f"[default]\ncredential_process = {script}\n")
    return calls


def test_temporary_keys_are_used_until_they_expire(aws: Aws, tmp_path: Path) -> None:
    process(aws, tmp_path, "2099-01-01T00:00:00Z")
    found = Credentials()
    assert [found.keys() for _ in range(3)] == [Keys("K1", "s", "t")] * 3


def test_temporary_keys_are_renewed_automatically(aws: Aws, tmp_path: Path) -> None:
    soon = dt.datetime.now(dt.timezone.utc) + dt.timedelta(minutes=5)
    process(aws, tmp_path, soon.strftime("%Y-%m-%dT%H:%M:%SZ"))
    found = Credentials()
    first = found.keys()
    wait_until(lambda: found.keys() != first)


def renewing(minutes: int) -> tuple[RenewingKeys, threading.Event, list[int]]:
    """Return keys that expire in this many minutes, renewed only once the event is set."""
    gate, calls = threading.Event(), []

    def renew() -> dict[str, str]:
        calls.append(1)
        assert gate.wait(600)  # longer than a test may take
        return metadata("NEW", 600)

    made = RefreshableCredentials.create_from_metadata(metadata("OLD", minutes), renew, "test")
    return RenewingKeys(made), gate, calls


def metadata(access_key: str, minutes: int) -> dict[str, str]:
    end = dt.datetime.now(dt.timezone.utc) + dt.timedelta(minutes=minutes)
    return {
        "access_key": access_key,
        "secret_key": "s",
        "token": "t",
        "expiry_time": end.isoformat(),
    }


@pytest.mark.fault(
    area="keys",
    fault="a renewal of keys that hangs",
    face="all",
    sees="the old keys are used for as long as they are valid",
    deadline="at once",
)
@pytest.mark.parametrize("minutes", [12, 5, 1])
def test_keys_that_are_valid_are_used_while_their_renewal_hangs(minutes: int) -> None:
    """Also in the last ten minutes, in which botocore would wait."""
    found, gate, calls = renewing(minutes)
    found._keys = Keys("OLD", "s", "t")
    for _ in range(5):
        assert found.keys().access_key == "OLD"
    assert len(calls) <= 1
    gate.set()
    wait_until(lambda: found.keys().access_key == "NEW")


def test_the_wait_for_expired_keys_is_bounded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(aws_credential_chain, "_LIMIT_S", 0.3)
    found, gate, _ = renewing(-1)
    with ThreadPoolExecutor(8) as pool:
        errors = [f.exception() for f in [pool.submit(found.keys) for _ in range(8)]]
    assert all(isinstance(error, StoreUnavailable) for error in errors)
    gate.set()


@pytest.mark.fault(
    area="keys",
    fault="a credential process that never returns",
    face="all",
    sees="an error that names it; it is killed with its children",
    deadline="30 s",
)
@pytest.mark.parametrize("behind", ["", "a role"])
def test_a_process_that_never_returns_is_killed_and_named(
    aws: Aws, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, behind: str
) -> None:
    monkeypatch.setattr(aws_credential_chain, "CREDENTIALS_S", 0.5)
    monkeypatch.setattr(aws_credential_chain, "FAILURE_KEPT_S", 600.0)
    script, pids = tmp_path / "hangs", tmp_path / "pids"
    script.write_text(f"#!/bin/sh\necho $$ >> {pids}\nsleep 300 &\necho $! >> {pids}\nwait\n")
    script.chmod(0o755)
    text = f"[profile p]\ncredential_process = {script} {SECRET}\n"
    if behind:
        text = text.replace("profile p", "profile base") + (
            "[profile p]\nregion = us-east-1\nrole_arn = arn:aws:iam::123456789012:role/r\n"
            "source_profile = base\n"
        )
    aws.config(text)
    true = aws_credential_chain._BoundedProcess.communicate

    def communicate(run: subprocess.Popen[bytes]) -> tuple[bytes, bytes]:
        wait_until(lambda: pids.exists() and pids.read_text().count("\n") == 2)
        return true(run)

    monkeypatch.setattr(aws_credential_chain._BoundedProcess, "communicate", communicate)
    found = Credentials("p")
    for _ in range(3):  # not waited for again by each object
        with pytest.raises(StoreUnavailable, match="credential_process hangs did not end") as e:
            found.keys()
        assert SECRET not in str(e.value)
    started = [int(line) for line in pids.read_text().split()]
    assert len(started) == 2
    wait_until(lambda: not any(is_running(pid) for pid in started))


def test_a_failing_process_gives_no_key_and_its_output_is_not_printed(
    aws: Aws, tmp_path: Path
) -> None:
    aws.config(f"[default]\ncredential_process = /bin/sh -c 'echo {SECRET} >&2; exit 1'\n")
    with pytest.raises(CredentialsRejected) as caught:
        Credentials().keys()
    assert SECRET not in str(caught.value)


def test_a_written_file_is_read_again_after_a_refusal(aws: Aws) -> None:
    aws.keys("OLD", "s")
    found = Credentials()
    found.keys()
    aws.keys("NEW", "s")
    assert found.refresh(found.generation, rejected=True)
    assert found.keys() == Keys("NEW", "s")


def test_an_unchanged_file_causes_no_new_request(aws: Aws) -> None:
    aws.keys("OLD", "s")
    found = Credentials()
    found.keys()
    assert not found.refresh(found.generation, rejected=True)


def test_a_key_that_appears_is_found(aws: Aws) -> None:
    found = Credentials()
    with pytest.raises(CredentialsRejected):
        found.keys()
    aws.keys("NEW", "s")
    assert found.keys() == Keys("NEW", "s")


def test_many_refused_threads_read_the_file_once(
    aws: Aws, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(credentials, "REREAD_S", 0.0)
    calls = process(aws, tmp_path, "2099-01-01T00:00:00Z")
    found = Credentials()
    generation = found.generation
    assert found.keys().access_key == "K1"
    with ThreadPoolExecutor(16) as pool:
        changed = list(pool.map(lambda _: found.refresh(generation, rejected=True), range(16)))
    assert all(changed)
    assert found.keys().access_key == "K2"
    assert calls.read_text().count("\n") == 2


def test_a_chain_without_a_key_is_not_run_for_every_object(aws: Aws, tmp_path: Path) -> None:
    """The chain can take seconds: it waits for instance metadata."""
    calls = tmp_path / "calls"
    aws.config(f"[default]\ncredential_process = /bin/sh -c 'echo >> {calls}; exit 1'\n")
    found = Credentials()
    for _ in range(5):
        with pytest.raises(CredentialsRejected):
            found.keys()
    assert calls.read_text().count("\n") == 1


def test_an_error_that_is_raised_again_does_not_grow(aws: Aws) -> None:
    found, depths = Credentials(), []
    for _ in range(5):
        with pytest.raises(CredentialsRejected) as caught:
            found.keys()
        depths.append((len(caught.traceback), caught.value.hint != ""))
    assert len(set(depths)) == 1


@pytest.mark.parametrize(
    ("expires", "says"), [("2001-01-01T00:00:00Z", "have expired by"), ("soon", "gave no key")]
)
def test_keys_that_the_chain_cannot_use_are_a_refusal_and_no_bug(
    aws: Aws, tmp_path: Path, expires: str, says: str
) -> None:
    keys = tmp_path / "keys.json"
    keys.write_text(
        '{"Version": 1, "AccessKeyId": "A", "SecretAccessKey": "S", "SessionToken": "T",'
        f' "Expiration": "{expires}"}}'
    )
    aws.config(f"[default]\ncredential_process = cat {keys}\n")
    with pytest.raises(CredentialsRejected, match=says) as caught:
        key_origin("")
    assert "check what the profile names" in caught.value.hint
