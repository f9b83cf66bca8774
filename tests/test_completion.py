"""Shell completion: the scripts that `ego4dfs completion` prints, in the shells themselves."""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import pty
import select
import shlex
import subprocess
import time
from pathlib import Path

import pytest

from ego4dfs.cli import COMMANDS, completion, parser_of

SYNTAX_CHECKS = {"bash": ["bash", "-n"], "zsh": ["zsh", "-n"], "fish": ["fish", "--no-execute"]}
LINES = [
    ("ego4dfs mou", {"mount"}),
    ("ego4dfs mount --dat", {"--datasets"}),
    ("ego4dfs mount --datasets full", {"full_scale"}),
    ("ego4dfs ls --universities uni", {"uniandes", "unict"}),
    ("ego4dfs prefetch --benchmarks F", {"FHO"}),
    ("ego4dfs prefetch --to c", {"cache"}),
    ("ego4dfs cache un", {"unpin"}),
    ("ego4dfs index ex", {"export"}),
    ("ego4dfs completion f", {"fish"}),
]


@pytest.fixture(scope="module")
def scripts(tmp_path_factory) -> dict[str, Path]:
    directory = tmp_path_factory.mktemp("completion")
    (directory / "dir-one").mkdir()
    (directory / "file-one").touch()
    found = {}
    for shell in SYNTAX_CHECKS:
        with contextlib.redirect_stdout(io.StringIO()) as text:
            completion.run(argparse.Namespace(shell=shell))
        found[shell] = directory / f"ego4dfs.{shell}"
        found[shell].write_text(text.getvalue())
    return found


def in_bash(script: Path, line: str) -> set[str]:
    """Call the function that bash calls for Tab, as bash does."""
    words = shlex.split(line)
    code = (
        f'source {script}; cd {script.parent}; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1))\n'
        '_shtab_ego4dfs ego4dfs "${@: -1}"; printf "%s\\n" "${COMPREPLY[@]}"'
    )
    command = ["bash", "--norc", "-c", code, "-", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def in_fish(script: Path, line: str) -> set[str]:
    code = f"cd {script.parent}; source {script}; complete -C {shlex.quote(line)}"
    command = ["fish", "--no-config", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return {found.split("\t")[0].rstrip("/") for found in done.stdout.splitlines()}


@pytest.mark.parametrize("shell", SYNTAX_CHECKS)
def test_a_script_is_valid_in_its_shell(scripts, shell):
    subprocess.run([*SYNTAX_CHECKS[shell], scripts[shell]], check=True)


@pytest.mark.parametrize(("line", "expected"), LINES)
def test_bash_completes(scripts, line, expected):
    assert in_bash(scripts["bash"], line) == expected


@pytest.mark.parametrize(("line", "expected"), LINES)
def test_fish_completes(scripts, line, expected):
    assert in_fish(scripts["fish"], line) == expected


@pytest.mark.parametrize("complete", [in_bash, in_fish])
def test_directories_and_files_are_completed(scripts, complete):
    script = scripts["bash" if complete is in_bash else "fish"]
    assert complete(script, "ego4dfs mount dir-") == {"dir-one"}
    assert complete(script, "ego4dfs prefetch --cache-dir dir-") == {"dir-one"}
    assert complete(script, "ego4dfs mount --config_path file-") == {"file-one"}
    assert complete(script, "ego4dfs index import file-") == {"file-one"}


def test_a_list_of_names_is_completed_to_its_end_in_bash(scripts):
    assert in_bash(scripts["bash"], "ego4dfs mount --datasets annotations im") == {"imu"}


def test_tab_completes_in_an_interactive_bash(scripts):
    pid, terminal = pty.fork()
    if pid == 0:
        os.execvp("bash", ["bash", "--norc", "--noprofile", "-i"])  # noqa: S606 - the child of the test
    try:
        os.write(terminal, f"source {scripts['bash']}\n".encode())
        os.write(terminal, b"ego4dfs unm\t")
        seen, deadline = b"", time.monotonic() + 20
        while b"ego4dfs unmount" not in seen and time.monotonic() < deadline:
            if select.select([terminal], [], [], 0.1)[0]:
                seen += os.read(terminal, 4096)
        assert b"ego4dfs unmount" in seen
    finally:
        os.close(terminal)  # hangs up: bash exits
        os.waitpid(pid, 0)


def test_every_option_with_known_words_exists():
    actions = {a.dest for name in COMMANDS for a in parser_of(name)._actions}
    assert {*completion.WORDS, *completion.FILES, *completion.DIRECTORIES} <= actions


def test_hidden_options_are_not_completed(scripts):
    assert not in_bash(scripts["bash"], "ego4dfs ls --bypass")
    assert not in_fish(scripts["fish"], "ego4dfs ls --bypass")


def test_the_help_says_where_to_put_a_script():
    text = parser_of("completion").format_help()
    assert "bash  ~/.local/share/bash-completion/completions/ego4dfs" in text
    assert "zsh   ~/.zfunc/_ego4dfs" in text
    assert "ego4dfs completion fish >~/.config/fish/completions/ego4dfs.fish" in text
