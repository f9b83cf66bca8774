r"""Escaping of untrusted text for terminals, logs, shells and JSON; sizes for people; folded names.

A name on S3 may contain any character: line ends that forge a line of a log, escape sequences that
rename a terminal or hide the text before them, bidirectional marks that reverse text. Output for
people shows such a character as its Python escape, such as `\x1b`; `--json` has the exact name.
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
from urllib.parse import urlsplit

_HTTP = re.compile(r"https?://[^/\s]+")
_USER = re.compile(r"//[^/\s]*@")


def masked(text: str) -> str:
    """Return `text` without the user names and passwords of its URLs."""
    return _USER.sub("//", text)


def is_http_url(text: str) -> bool:
    """Return whether a text is the URL of an HTTP server, with a host and a valid port."""
    if not _HTTP.match(text):
        return False
    try:
        parts = urlsplit(text)
        return bool(parts.hostname) and parts.port != 0
    except ValueError:  # no port, or no IPv6 address in brackets
        return False


def printable(text: str) -> str:
    r"""Return `text` on one line, with characters that do not print as escapes: `\n`, `\u202e`.

    Escaped are line ends, tabs, control characters (C0, DEL, C1), bidirectional and zero-width
    marks, lone surrogates, and all blanks except the space. A backslash stays as it is.
    """
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else _escape(char) for char in text)


def _escape(char: str) -> str:
    return char.encode("unicode_escape").decode("ascii")


def shell_word(text: str) -> str:
    """Return `text` quoted as one printable word, which bash and zsh parse to its exact bytes."""
    if text.isprintable():
        return shlex.quote(text)
    return "$'" + "".join(map(_shell_char, text)) + "'"


def _shell_char(char: str) -> str:
    if char in "\\'":
        return f"\\{char}"
    return char if char.isprintable() else "".join(f"\\{b:03o}" for b in os.fsencode(char))


def json_text(document: object, *, default: Callable[[Any], object] | None = None) -> str:
    """Return an indented JSON document; characters that do not print are escaped in its strings."""
    text = json.dumps(document, indent=2, ensure_ascii=False, default=default)
    if text.replace("\n", "").isprintable():
        return text
    return "".join(c if c.isprintable() or c == "\n" else json.dumps(c)[1:-1] for c in text)


def human_size(size: int) -> str:
    """Return a size in bytes for people, in binary units: `1.5 GiB`."""
    value, unit = float(size), "B"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if round(value, 1) < 1024:
            break
        value, unit = value / 1024, larger
    return f"{size} B" if unit == "B" else f"{value:.1f} {unit}"


def human_time(seconds: float) -> str:
    """Return a duration as text, rounded: `45 s`, `59 min`, `3 h`, `2 d`."""
    for unit, length, limit in (("s", 1, 120), ("min", 60, 120), ("h", 3600, 48)):
        if round(seconds / length) < limit:
            return f"{round(seconds / length)} {unit}"
    return f"{round(seconds / 86400)} d"


def counted(count: int, one: str, many: str = "") -> str:
    """Return a number and what it counts."""
    return f"{count} {one if count == 1 else many or one + 's'}"


def distinct_sizes(one: int, other: int) -> tuple[str, str]:
    """Return two sizes for people, in bytes if they would look the same in larger units."""
    shown = human_size(one), human_size(other)
    return shown if shown[0] != shown[1] else (f"{one} bytes", f"{other} bytes")


class SanitizingHandler(logging.Handler):
    """Rewrites each record to one escaped line without passwords, for the handlers after it.

    It must be the first handler of this package's logger; the handlers of the program then get
    the rewritten record too. A traceback follows its line, indented, so that none of its lines
    looks like a record.
    """

    def handle(self, record: logging.LogRecord) -> bool:
        """Rewrite `record`, and print it as Python does if there is no other handler."""
        record.msg, record.args = printable(masked(record.getMessage())), None
        if record.exc_info and record.exc_info[0] and not record.exc_text:
            record.exc_text = _indented(traceback.format_exception(*record.exc_info))
        if logging.lastResort and record.levelno >= logging.lastResort.level and self._is_alone():
            logging.lastResort.handle(record)
        return True

    def _is_alone(self) -> bool:
        package = logging.getLogger(__package__)
        others = [h for h in package.handlers if not isinstance(h, SanitizingHandler)]
        return not others and not (package.propagate and logging.getLogger().handlers)


def _indented(parts: list[str]) -> str:
    lines = masked("".join(parts)).rstrip("\n").split("\n")
    return "\n".join(f"  {printable(line)}" for line in lines)


def folded(name: str) -> str:
    """Return a key that is equal for file names that some disk treats as the same."""
    if name.isascii():
        return name.lower().rstrip(" .")
    plain = unicodedata.normalize("NFD", unicodedata.normalize("NFD", name).casefold())
    return plain.rstrip(" .")
