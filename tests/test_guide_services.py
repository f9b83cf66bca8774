"""The units and manifests in the guides: they are well-formed, and their commands exist."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
import yaml

from ego4dfs.cli import parser_of

pytestmark = pytest.mark.first_pass

GUIDES = Path(__file__).parent.parent / "docs/guides"


def blocks(page, language):
    text = (GUIDES / page).read_text()
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def commands(value):
    """Yield the words of each command of ego4dfs in a manifest."""
    if isinstance(value, dict):
        for inner in value.values():
            yield from commands(inner)
    elif isinstance(value, list) and value[:1] == ["ego4dfs"]:
        yield value[1:]
    elif isinstance(value, list):
        for inner in value:
            yield from commands(inner)
    elif isinstance(value, str) and "exec ego4dfs " in value:
        yield value.partition("exec ego4dfs ")[2].split()


def test_commands_of_manifests_are_accepted():
    manifests = [
        manifest
        for page in ("services.md", "cluster.md")
        for block in blocks(page, "yaml")
        for manifest in yaml.safe_load_all(block)
    ]
    assert [m["kind"] for m in manifests] == ["DaemonSet", "Pod", "Pod", "Pod", "Job"]
    found = [words for manifest in manifests for words in commands(manifest)]
    for name, *words in found:
        parser_of(name).parse(words)
    assert [name for name, *_ in found] == ["mount", "mount", "prefetch"]


@pytest.mark.program("systemd-analyze")
def test_systemd_accepts_the_unit(tmp_path, monkeypatch):
    program = tmp_path / ".local/bin/ego4dfs"
    program.parent.mkdir(parents=True)
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    [unit] = blocks("services.md", "ini")
    path = tmp_path / "ego4d.service"
    path.write_text(unit)
    line = ["systemd-analyze", "verify", "--user", "--man=no", str(path)]
    done = subprocess.run(line, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "ego4d" not in done.stderr  # it may name other units of this machine
