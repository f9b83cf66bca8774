r"""Text from outside (names, paths, answers) made safe for terminals, logs, shells and JSON.

A name on S3 may hold any character: line ends that forge a line of a log, escape sequences that
rename a terminal or hide what stands before them, marks that turn the reading direction. People
see such a character as its Python escape, as `\x1b`; programs get the exact name from `--json`.
"""

from __future__ import annotations

import json
import logging
import os
import re
import shlex
import traceback
import unicodedata
from collections.abc import Callable
from typing import Any

_USER = re.compile(r"//[^/\s]*@")


def masked(text: str) -> str:
    """Return `text` without the users and passwords of the URLs in it."""
    return _USER.sub("//", text)


def printable(text: str) -> str:
    r"""Return `text` on one line, what does not print as an escape: `\n`, `\x1b`, `\u202e`.

    These are line ends, tabs, control characters (C0, DEL, C1), marks of direction and width,
    lone surrogates, and all blanks but the space. A backslash stays as it is.
    """
    if text.isprintable():
        return text
    return "".join(letter if letter.isprintable() else _escape(letter) for letter in text)


def _escape(letter: str) -> str:
    return letter.encode("unicode_escape").decode("ascii")


def shell_word(text: str) -> str:
    """Return `text` as one printable word of a shell; bash and zsh read back its exact bytes."""
    if text.isprintable():
        return shlex.quote(text)
    return "$'" + "".join(map(_shell_letter, text)) + "'"


def _shell_letter(letter: str) -> str:
    if letter in "\\'":
        return f"\\{letter}"
    return letter if letter.isprintable() else "".join(f"\\{b:03o}" for b in os.fsencode(letter))


def json_text(document: object, *, default: Callable[[Any], object] | None = None) -> str:
    """Return a JSON document of several lines; what does not print is escaped in its texts."""
    text = json.dumps(document, indent=2, ensure_ascii=False, default=default)
    if text.replace("\n", "").isprintable():
        return text
    return "".join(c if c.isprintable() or c == "\n" else json.dumps(c)[1:-1] for c in text)


def human_size(size: int) -> str:
    """Return a size in bytes for people, in units of 1024 that say so: `1.5 GiB`."""
    value, unit = float(size), "B"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if round(value, 1) < 1024:
            break
        value, unit = value / 1024, larger
    return f"{size} B" if unit == "B" else f"{value:.1f} {unit}"


def sizes_apart(one: int, other: int) -> tuple[str, str]:
    """Return two sizes for people; in bytes where they would look the same."""
    shown = human_size(one), human_size(other)
    return shown if shown[0] != shown[1] else (f"{one} bytes", f"{other} bytes")


class PlainRecords(logging.Handler):
    """Makes a record one line without passwords before other handlers see it.

    It belongs first among the handlers of this package's logger; what the program around has
    for handlers then gets the same. A traceback stays below its line, indented, so that none of
    its lines passes for a record.
    """

    def handle(self, record: logging.LogRecord) -> bool:
        """Make `record` plain, and print it as Python does if there is no other handler."""
        record.msg, record.args = printable(masked(record.getMessage())), None
        if record.exc_info and record.exc_info[0] and not record.exc_text:
            record.exc_text = _indented(traceback.format_exception(*record.exc_info))
        if logging.lastResort and record.levelno >= logging.lastResort.level and self._is_alone():
            logging.lastResort.handle(record)
        return True

    def _is_alone(self) -> bool:
        package = logging.getLogger(__package__)
        others = [h for h in package.handlers if not isinstance(h, PlainRecords)]
        return not others and not (package.propagate and logging.getLogger().handlers)


def _indented(parts: list[str]) -> str:
    lines = masked("".join(parts)).rstrip("\n").split("\n")
    return "\n".join(f"  {printable(line)}" for line in lines)


def folded(name: str) -> str:
    """Return what is the same of all file names that some disk takes for one."""
    if name.isascii():
        return name.lower().rstrip(" .")
    plain = unicodedata.normalize("NFD", unicodedata.normalize("NFD", name).casefold())
    return plain.rstrip(" .")
