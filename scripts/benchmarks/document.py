"""The parts of a Markdown file that runs write, between two comments for each group."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from benchmarks.trouble import BenchError


def replace(path: Path, sections: Mapping[str, str], *, dry: bool = False) -> None:
    """Replace what is between the markers of each group.

    Raises BenchError when the file or a marker is missing; `dry` only looks for them.
    """
    try:
        text = path.read_text()
    except OSError as error:
        raise BenchError(f"{path}: {error.strerror}") from error
    for group, section in sections.items():
        begin, end = f"<!-- bench {group} -->\n", f"<!-- end of bench {group} -->\n"
        head, found, rest = text.partition(begin)
        _, closed, tail = rest.partition(end)
        if not found or not closed:
            raise BenchError(f"{path} needs two lines, {begin.strip()} and {end.strip()}")
        text = f"{head}{begin}\n{section}\n{end}{tail}"
    if not dry:
        path.write_text(text)
