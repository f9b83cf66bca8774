"""The option `--windows FILE`: its rows, and what is printed of rows that cannot be used."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator

from ego4dfs.annotations import read_windows
from ego4dfs.annotations.rows import Row
from ego4dfs.cli.output import say
from ego4dfs.cli.prefetch_printer import SHOWN
from ego4dfs.config import Config
from ego4dfs.config.values import Given, file_or_tree_path
from ego4dfs.errors import ConfigError, os_error_text
from ego4dfs.prefetch.windows import BadRows
from ego4dfs.session import Session
from ego4dfs.text import counted
from ego4dfs.vfs import named_file

_ROWS = 1000


def check_windows_file(named: str | None) -> None:
    """Raise ConfigError for an empty name, as of an unset variable: it is not no name."""
    if named == "":
        hint = "name an annotation or a table"
        raise ConfigError("--windows: the name of the file is empty", hint=hint)


def window_rows(
    session: Session, config: Config, named: str, on_rows: Callable[[int], None]
) -> Iterator[Row]:
    """Yield the rows of the file. Raises ConfigError, which names the option.

    `on_rows` gets the number of rows that were read, after every thousand.
    """
    path = file_or_tree_path(Given(named, "--windows"))
    try:
        for count, row in enumerate(read_windows(named_file(session, config, path)), 1):
            if not count % _ROWS:
                on_rows(count)
            yield row
    except OSError as error:
        raise ConfigError(f"--windows {named}: {os_error_text(error)}") from error
    except ConfigError as error:
        raise ConfigError(f"--windows {named}: {error}", hint=error.hint) from error


def say_bad_rows(bad: BadRows) -> None:
    """Name on stderr the first rows that cannot be used, and count the others."""
    for one in bad.rows[:SHOWN]:
        say(f"  {one.row}: {one.reason}", file=sys.stderr)
    more = bad.count - SHOWN
    if more > 0:
        say(f"  … and {counted(more, 'more row')}; --json names them", file=sys.stderr)


def unselected_line(windows: int) -> str:
    """Return the line about windows of videos that are not selected."""
    return f"Left out: {counted(windows, 'window')} of videos that are not selected."


def bad_rows_document(bad: BadRows) -> dict[str, object]:
    """Return the rows that cannot be used, for programs."""
    return {
        "bad_rows": bad.count,
        "first_bad_rows": [{"row": one.row, "reason": one.reason} for one in bad.rows],
    }
