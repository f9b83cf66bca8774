"""Commands that messages print are accepted by the parser, and mean what was given."""

from __future__ import annotations

import argparse
import os
import re
import shlex
import subprocess
from fnmatch import fnmatchcase
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ego4dfs
from ego4dfs.cli import parser_of
from ego4dfs.cli.parser import Parser, command_line
from ego4dfs.cli.retry_commands import exact_pattern
from ego4dfs.config.values import Given, patterns

PARSERS = {name: parser_of(name) for name in ("prefetch", "mount", "verify", "ls")}
HOSTILE = ("-y", "--jobs", "-", "~/x", ".hidden", "/abs", "a b", "it's", '"', "$(x)", "a=b")
HOSTILE += ("*.csv", "[1],2", "new\nline", "back\\slash", "\udcff", "é", "name~2.json", " x ", "")
TEXT = st.one_of(st.sampled_from(HOSTILE), st.text(st.characters(), max_size=6))
TEXT = TEXT.filter(lambda text: text != "--")  # argparse itself takes it for no value
PRINTED = TEXT.filter(str.isprintable)  # bash reads the rest, and shlex does not
NAMES = st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1)


def value_of(action: argparse.Action) -> st.SearchStrategy[object]:
    if action.nargs == 0:
        return st.just(action.const)
    one = st.sampled_from(list(action.choices)) if action.choices else PRINTED
    if action.type is int:
        return st.integers(-9, 99)
    if action.nargs in {"+", "*"} or isinstance(action, argparse._AppendAction):
        return st.lists(one, min_size=0 if action.nargs == "*" else 1, max_size=5)
    return one


def options(parser: Parser) -> st.SearchStrategy[dict[str, object]]:
    actions = [a for a in parser._actions if a.dest != "help" and a.nargs != "?"]
    return st.fixed_dictionaries({}, optional={a.dest: value_of(a) for a in actions})


def defaults(name: str) -> dict[str, object]:
    return vars(PARSERS[name].parse([]))


@pytest.mark.fault(
    area="input",
    fault="names with blanks, quotes, commas, glob characters, line ends or a leading dash",
    face="prefetch",
    sees="the printed commands to continue can be pasted, and select only those files",
    deadline="at once",
)
@pytest.mark.parametrize("name", PARSERS)
@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_a_printed_command_says_what_was_given(name, data):
    flags = data.draw(options(PARSERS[name]))
    line = command_line(PARSERS[name], argparse.Namespace(**flags))
    assert shlex.split(line)[:2] == ["ego4dfs", name]
    assert vars(PARSERS[name].parse(shlex.split(line)[2:])) == defaults(name) | flags


@pytest.mark.parametrize("path", ["plain", "-dash", "~/home", "a b"])
def test_a_positional_argument_is_not_part_of_a_list(path):
    flags = {"mountpoint": path, "datasets": ["clips", "imu"]}
    line = command_line(PARSERS["mount"], argparse.Namespace(**flags))
    assert vars(PARSERS["mount"].parse(shlex.split(line)[2:])) == defaults("mount") | flags


@settings(deadline=None, max_examples=60)
@given(names=st.lists(NAMES, min_size=1, max_size=5), others=st.lists(NAMES, max_size=20))
def test_patterns_of_names_match_those_names_alone(names, others):
    taken = patterns(Given([exact_pattern(name) for name in names], "--include"))
    assert all(pattern[0] != "-" for pattern in taken)
    for name in names:
        assert any(fnmatchcase(name, pattern) for pattern in taken)
    for other in others:
        assert any(fnmatchcase(other, pattern) for pattern in taken) == (other in names)


def test_bash_reads_back_names_with_control_characters():
    flags = {"include": ["new\nline", "\x1b[2J"], "output_directory": "/data/\udcff"}
    line = command_line(PARSERS["prefetch"], argparse.Namespace(**flags))
    assert line.isprintable()
    done = subprocess.run(["bash", "-c", f"printf '%s\\0' {line}"], capture_output=True, check=True)
    words = os.fsdecode(done.stdout).split("\0")[2:-1]
    assert vars(PARSERS["prefetch"].parse(words)) == defaults("prefetch") | flags


def test_a_comma_in_brackets_is_part_of_its_pattern():
    assert patterns(Given(["[,]x,y", "[a", "b]"], "")) == ("[,]x", "y", "[a", "b]")


def test_paths_in_commands_of_messages_are_words_of_a_shell():
    command = re.compile(r"ego4dfs (?:un)?(?:mount|status|prefetch|verify)[^`\"]* \{(\w+)")
    package = Path(ego4dfs.__file__).parent
    for path in (path for path in package.rglob("*.py") if path.parent.name != "demo"):
        for placeholder in command.findall(path.read_text()):
            assert placeholder in {"shell_word", "shown", "name", "dataset"}, path
