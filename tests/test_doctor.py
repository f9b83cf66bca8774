"""`ego4dfs doctor` distinguishes causes, names remedies, and ends in bounded time."""

from __future__ import annotations

import ast
import json
import re
import socket
from pathlib import Path

import pytest

import ego4dfs
from ego4dfs import session
from ego4dfs.cli.output import ExitCode
from ego4dfs.config import resolve
from ego4dfs.doctor import Level, check_machine, check_remote
from kit.cli import run_cli


@pytest.fixture
def doctor(licensee, release):
    """Run the doctor on this test's release; returns its exit code and its rows by name."""
    release.metadata(b"{}")
    release.dataset("annotations", {"narration.json": b"{}", "fho.csv": b"a\n"})

    def run(*arguments, endpoint="", **env):
        env = {**licensee, **env}
        if endpoint:
            env["AWS_ENDPOINT_URL"] = endpoint
        done = run_cli(
            "doctor", "--json", "--version", release.version, *arguments, env=env, check=False
        )
        assert "Traceback" not in done.stderr
        for secret in ("AWS_SECRET_ACCESS_KEY", "AWS_ACCESS_KEY_ID"):
            assert env[secret] not in done.stdout + done.stderr
        return done.returncode, {row["check"]: row for row in json.loads(done.stdout)}

    return run


def states(rows):
    return {name: row["state"] for name, row in rows.items()}


def test_on_a_working_machine_all_checks_are_ok(doctor):
    code, rows = doctor("--datasets", "annotations")
    expected = {
        "FUSE device",
        "libfuse",
        "permission to mount",
        "cache directory",
        "memory",
        "network",
        "clock",
        "mounts",
    }
    assert expected | {"free space", "region", "credentials", "licence", "annotations"} == {*rows}
    assert {s for name, s in states(rows).items() if name not in {"free space", "mounts"}} == {"ok"}
    assert rows["annotations"]["found"] == "2 files"
    assert rows["credentials"]["found"] == "a key from AWS_ACCESS_KEY_ID of the environment"
    assert code == ExitCode.OK


def test_the_table_has_a_row_for_each_check(doctor, release, cli):
    done = cli("doctor", "--version", release.version, "--datasets", "annotations")
    lines = done.stdout.splitlines()
    assert lines[0].split() == ["check", "state", "found", "remedy"]
    assert any(line.split()[:4] == ["annotations", "ok", "2", "files"] for line in lines)


@pytest.mark.parametrize(
    ("code", "remedy"),
    [
        ("InvalidAccessKeyId", "with the same e-mail"),
        ("ExpiredToken", "with the same e-mail"),
        ("SignatureDoesNotMatch", "copy both halves of the key"),
    ],
)
def test_a_rejected_key_is_distinguished_from_everything_else(
    doctor, gateway, licensee, code, remedy
):
    gateway.faults.rejected_keys = {licensee["AWS_ACCESS_KEY_ID"]: code}
    exit_code, rows = doctor(endpoint=gateway.url)
    assert rows["licence"]["state"] == "fail"
    assert code in rows["licence"]["found"]
    assert remedy in rows["licence"]["remedy"]
    assert rows["datasets"]["found"] == "not checked, and no manifest is cached"
    assert exit_code == ExitCode.REFUSED


def test_a_key_without_access_is_reported_with_its_remedy(doctor, gateway):
    gateway.faults.hide_missing = True
    code, rows = doctor("--version", "v999", endpoint=gateway.url)
    assert states(rows)["datasets"] == "fail"
    assert "or this AWS key may not read it" in rows["datasets"]["found"]
    assert "is it the key from your Ego4D e-mail?" in rows["datasets"]["remedy"]
    assert code == ExitCode.REFUSED


def test_a_typo_is_answered_with_the_name_that_was_meant(doctor, gateway):
    gateway.faults.hide_missing = True
    code, rows = doctor("--datasets", "full-scale", "annotations", endpoint=gateway.url)
    assert states(rows)["annotations"] == "ok"
    assert rows["full-scale"]["state"] == "fail"
    assert "did you mean full_scale?" in rows["full-scale"]["found"]
    assert code == ExitCode.USAGE


def test_an_unpublished_dataset_fails_only_if_it_was_named(doctor, gateway):
    gateway.faults.hide_missing = True
    code, rows = doctor("--datasets", "fut_loc", endpoint=gateway.url)
    assert rows["fut_loc"]["state"] == "fail"
    assert "though the key works for others" in rows["fut_loc"]["found"]
    assert "announced but not published" in rows["fut_loc"]["remedy"]
    assert code == ExitCode.REFUSED
    code, rows = doctor(endpoint=gateway.url)
    assert (rows["fut_loc"]["state"], rows["annotations"]["state"]) == ("warn", "ok")
    assert code == ExitCode.OK


def test_a_missing_key_is_reported_with_the_place_to_enter_it(licensee, release):
    env = {k: v for k, v in licensee.items() if not k.startswith(("AWS_ACCESS", "AWS_SECRET"))}
    env["AWS_EC2_METADATA_DISABLED"] = "true"
    done = run_cli("doctor", "--json", "--version", release.version, env=env, check=False)
    rows = {row["check"]: row for row in json.loads(done.stdout)}
    assert rows["credentials"]["state"] == "fail"
    assert "`aws configure`" in rows["credentials"]["remedy"]
    assert "licence" not in rows
    assert done.returncode == ExitCode.REFUSED


def test_a_refused_connection_is_reported_with_the_usable_datasets(doctor, gateway):
    doctor("--datasets", "annotations", endpoint=gateway.url)
    gateway.stop()
    code, rows = doctor(endpoint=gateway.url)
    assert rows["network"]["state"] == "fail"
    assert "the connection is refused" in rows["network"]["found"]
    found = rows["datasets"]["found"]
    assert found == "not checked; usable with their cached manifests: annotations"
    assert code == ExitCode.FAILURE


def test_a_network_that_swallows_everything_ends_in_bounded_time(doctor):
    with socket.socket() as hole:
        hole.bind(("127.0.0.1", 0))
        hole.listen(0)
        code, rows = doctor(endpoint=f"http://127.0.0.1:{hole.getsockname()[1]}")
    assert "no answer within" in rows["network"]["found"]
    assert "HTTPS_PROXY" in rows["network"]["remedy"]
    assert code == ExitCode.FAILURE


def test_certificates_that_do_not_exist_are_a_failed_check(doctor, tmp_path):
    code, rows = doctor("--datasets", "annotations", AWS_CA_BUNDLE=str(tmp_path / "gone.pem"))
    assert rows["network"]["state"] == "fail"
    assert rows["network"]["found"].startswith("AWS_CA_BUNDLE ")
    assert "gone.pem" in rows["network"]["found"]
    assert rows["network"]["remedy"] == "name a file of PEM certificates"
    assert code == ExitCode.USAGE


def test_an_invalid_region_is_a_warning(doctor):
    code, rows = doctor("--datasets", "annotations", AWS_REGION="global")
    assert rows["region"]["state"] == "warn"
    assert "'global'" in rows["region"]["found"]
    assert code == ExitCode.OK


def test_a_cache_that_cannot_be_made_is_reported(doctor, tmp_path):
    (tmp_path / "file").write_text("")
    where = str(tmp_path / "file" / "x")
    code, rows = doctor("--datasets", "annotations", "--cache-dir", where)
    assert rows["cache directory"]["state"] == "fail"
    assert "--cache-dir" in rows["cache directory"]["remedy"]
    assert rows["annotations"]["state"] == "ok"
    assert code == ExitCode.FAILURE


def test_the_doctor_reads_the_limit_of_a_cache_without_changing_it(doctor, cli):
    _, rows = doctor("--cache-size", "128MiB")
    assert "of 128.0 MiB are used" in rows["cache directory"]["found"]
    doctor("--cache-size", "200MiB")
    assert json.loads(cli("cache", "info", "--json").stdout)["limit_bytes"] == 256 << 20


def test_a_selection_is_counted(doctor):
    _, rows = doctor("--datasets", "annotations", "--include", "*.csv")
    assert rows["selection"]["found"] == "1 of 2 files"
    _, rows = doctor("--datasets", "annotations", "--include", "*.mp4")
    assert rows["selection"]["state"] == "fail"
    assert rows["selection"]["found"] == "0 of 2 rows of annotations match this selection"


def test_the_doctor_opens_the_store_and_the_facts_of_a_session(options, monkeypatch):
    """A check with another endpoint, profile or transport would say nothing about a mount."""
    opened = []
    true = session.open_store

    def open_store(**settings):
        opened.append({**settings, "metrics": None})
        return true(**settings)

    monkeypatch.setattr(session, "open_store", open_store)
    config = resolve({**options, "transport": "s3fs", "datasets": ["clips"]})
    session.open_session(config).close()
    (directory,) = (Path(options["cache_dir"]) / "v1/sources").iterdir()
    (directory / "facts.sqlite").unlink()
    assert [check.level for check in check_remote(config)] == [Level.OK] * 2
    list(check_machine(config))
    assert (directory / "facts.sqlite").exists()
    assert len(opened) == 3
    assert opened == opened[:1] * 3


# --- the table of docs/troubleshooting.md ----------------------------------------------------

PACKAGE = Path(ego4dfs.__file__).parent


def _texts(*sources: Path) -> str:
    """Return all string constants of some modules, those of f-strings in pieces."""
    trees = [ast.parse(path.read_text()) for path in sources]
    nodes = [node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Constant)]
    return "\n".join(node.value for node in nodes if isinstance(node.value, str))


def _documented() -> list[list[str]]:
    page = PACKAGE.parent / "docs/troubleshooting.md"
    rows = [line for line in page.read_text().splitlines() if line.startswith("| ")][1:]
    return [row.strip("| ").split(" | ") for row in rows]


def _checks() -> set[str]:
    """Return the names that checks are given in the doctor's own code."""
    names = set()
    for path in (PACKAGE / "doctor").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            value = node.value if isinstance(node, ast.Assign) else None
            is_name = isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "name"
            if isinstance(node, ast.Call) and node.args:
                called = ast.unparse(node.func)
                value = node.args[0] if called in {"Check", "Check.failed", "_checked"} else None
                is_name = value is not None
            if is_name and isinstance(value, ast.Constant):
                names.add(value.value)
    return names


def test_the_table_of_troubleshooting_has_every_check():
    documented = {row[0].partition(":")[0] for row in _documented()}
    assert documented == _checks() | {"a dataset"}


@pytest.mark.parametrize("row", _documented(), ids=lambda row: row[0])
def test_quoted_messages_of_the_table_exist_in_the_code(row):
    texts = _texts(*PACKAGE.rglob("*.py"))
    for quoted in re.findall(r'"([^"]+)"', row[0]):
        for part in quoted.split(" … "):
            assert part in texts, part
