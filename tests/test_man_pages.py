"""The man pages are in step with the parsers, complete and valid."""

from __future__ import annotations

import argparse
import os
import subprocess

import pytest

from ego4dfs.cli import COMMANDS, parser_of
from kit import man_page_docs

PAGES = sorted(man_page_docs.DIRECTORY.iterdir())


def test_the_pages_are_what_the_parsers_say():
    written = {path.name: path.read_text() for path in PAGES}
    assert written == man_page_docs.pages(), "run: python tests/test_docs.py"


def test_groff_has_no_warnings():
    command = ["man", "--warnings=w", "-l", *map(str, PAGES)]
    env = {**os.environ, "MANWIDTH": "80", "LC_ALL": "C.UTF-8"}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=env)
    assert done.stderr == ""
    assert "mount Ego4D as a directory" in done.stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_a_page_has_every_option_that_help_shows(command):
    text = (man_page_docs.DIRECTORY / f"ego4dfs-{command}.1").read_text().replace("\\-", "-")
    for action in parser_of(command)._actions:
        is_shown = action.help != argparse.SUPPRESS and action.dest != "help"
        for option in action.option_strings:
            assert (f"\\fB{option}\\fR" in text) == is_shown, option
