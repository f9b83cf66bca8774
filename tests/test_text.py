"""Text from outside on terminals, in logs, in shells and in JSON."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys

import pytest

from ego4dfs import text
from ego4dfs.errors import Ego4DError
from ego4dfs.text import counted, distinct_sizes
from kit.data import HOSTILE


@pytest.mark.parametrize("letters", HOSTILE.values(), ids=HOSTILE)
def test_characters_that_do_not_print_are_escaped(letters):
    shown = text.printable(f"a{letters}b")
    assert shown.isprintable()
    assert shown.encode("ascii").decode("unicode_escape") == f"a{letters}b"


@pytest.mark.parametrize("plain", ["", "a b", "é", "日本", "naïve\\n", "🎬"])
def test_printable_characters_are_unchanged(plain):
    assert text.printable(plain) == plain


@pytest.mark.parametrize("letters", HOSTILE.values(), ids=HOSTILE)
def test_json_is_exact_and_printable(letters):
    document = {f"k{letters}": [letters, "日本\U000e0001"]}
    shown = text.json_text(document)
    assert shown.replace("\n", "").isprintable()
    assert json.loads(shown) == document


@pytest.mark.parametrize("letters", [*HOSTILE.values(), "'", "\\", "it's \x1b7 \\"])
def test_a_shell_reads_back_the_word(letters):
    word = text.shell_word(f"a{letters}1")
    assert word.isprintable()
    done = subprocess.run(["bash", "-c", f"printf %s {word}"], capture_output=True, check=True)
    assert done.stdout == os.fsencode(f"a{letters}1")


def test_errors_are_one_printable_line():
    error = Ego4DError("s3://b/a\nego4dfs: forged", hint="x\x1b[2J")
    assert (str(error), error.hint) == ("s3://b/a\\nego4dfs: forged", "x\\x1b[2J")


def test_a_record_is_one_line_without_passwords(caplog):
    logging.getLogger("ego4dfs.any").warning("%s is odd", "http://me:secret@host/a\nb")
    assert caplog.messages == ["http://host/a\\nb is odd"]


def test_no_line_of_a_traceback_looks_like_a_record(caplog):
    def fail():
        raise ValueError("a\n2026-01-01 WARNING ego4dfs: forged\x1b[2J")

    try:
        fail()
    except ValueError:
        logging.getLogger("ego4dfs.any").exception("trouble")
    first, *others = caplog.text.splitlines()
    assert first.endswith("trouble")
    assert all(line.startswith("  ") and line.isprintable() for line in others)


def test_warnings_are_printed_where_no_log_is_set_up():
    script = "import logging, ego4dfs; logging.getLogger('ego4dfs.any').warning('%s', 'a\\nb')"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stderr == "a\\nb\n"


class Recorded(logging.Handler):
    """A handler that keeps the messages."""

    def __init__(self, level: int = logging.NOTSET) -> None:
        super().__init__(level)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())


@pytest.mark.parametrize(
    ("level", "others", "printed"),
    [
        (logging.WARNING, 0, ["a\\nb"]),
        (logging.ERROR, 0, ["a\\nb"]),
        (logging.INFO, 0, []),
        (logging.WARNING, 1, []),
    ],
)
def test_a_record_is_printed_once_and_only_if_no_handler_of_the_program_gets_it(
    monkeypatch, level, others, printed
):
    last, program = Recorded(logging.WARNING), Recorded()
    package = logging.getLogger("ego4dfs")
    monkeypatch.setattr(logging, "lastResort", last)
    monkeypatch.setattr(package, "propagate", False)
    monkeypatch.setattr(package, "level", logging.DEBUG)
    monkeypatch.setattr(package, "handlers", [text.SanitizingHandler(), *[program] * others])
    logging.getLogger("ego4dfs.any").log(level, "%s", "a\nb")
    assert last.messages == printed
    assert program.messages == ["a\\nb"] * others


def test_a_program_without_a_last_handler_gets_no_output(monkeypatch):
    package = logging.getLogger("ego4dfs")
    monkeypatch.setattr(logging, "lastResort", None)
    monkeypatch.setattr(package, "propagate", False)
    monkeypatch.setattr(package, "handlers", [text.SanitizingHandler()])
    logging.getLogger("ego4dfs.any").warning("unseen")


@pytest.mark.parametrize(
    ("sizes", "shown"),
    [
        ((40 << 20, 3 << 20), ("40.0 MiB", "3.0 MiB")),
        (((40 << 20) + 1, 40 << 20), ("41943041 bytes", "41943040 bytes")),
    ],
)
def test_two_sizes_that_differ_look_different(sizes, shown):
    assert distinct_sizes(*sizes) == shown


@pytest.mark.parametrize(
    ("count", "shown"), [(0, "0 files"), (1, "1 file"), (2, "2 files"), (1000, "1000 files")]
)
def test_what_is_counted_has_its_plural(count, shown):
    assert counted(count, "file") == shown


def test_an_irregular_plural_is_given():
    assert [counted(n, "is", "are") for n in (1, 2)] == ["1 is", "2 are"]
