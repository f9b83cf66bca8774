"""A directory of the tree as an HTML page, and as JSON in the form of nginx's autoindex."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import os
from array import array
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from functools import partial
from urllib.parse import quote

from werkzeug.http import http_date

from ego4dfs.text import human_size, printable
from ego4dfs.vfs import VFS
from ego4dfs.web.conditions import NS, http_time
from ego4dfs.web.threads import Threads

BATCH_ROWS = 1000
"""Rows that are made, and sent, at a time."""

Row = tuple[str, int, int]

_STYLE = """
:root { color-scheme: light dark; font-family: system-ui, sans-serif }
body { margin: 1rem auto; max-width: 60rem; padding: 0 1rem }
table { border-collapse: collapse; width: 100% }
th, td { text-align: left; padding: .2rem .8rem .2rem 0; overflow-wrap: anywhere }
td:nth-child(2), th:nth-child(2) { text-align: right; white-space: nowrap }
td:nth-child(3), th:nth-child(3) { white-space: nowrap }
"""
_STYLE_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()

CONTENT_SECURITY_POLICY = f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'"
"""What a browser may do on a page of a listing: use its style, and nothing else."""

_START = """\
<!DOCTYPE html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>{title}</title>
<style>{style}</style>
<h1>{title}</h1>
<table>
<thead><tr><th scope="col">Name</th><th scope="col">Size</th><th scope="col">Modified</th></tr>
</thead>
<tbody>
{parent}"""
_PARENT = '<tr><td><a href="../">../</a></td><td></td><td></td></tr>\n'
_END = """
</tbody>
</table>
</html>
"""


@dataclass(frozen=True, slots=True)
class Rows:
    """The names in a directory, in columns: a client that takes them slowly holds 24 bytes a name.

    The names of directories end with a slash. A size that is not known is -1.
    """

    names: list[str]
    sizes: array[int]
    mtimes_s: array[int]

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, part: slice) -> Rows:
        return Rows(self.names[part], self.sizes[part], self.mtimes_s[part])

    def __iter__(self) -> Iterator[Row]:
        return zip(self.names, self.sizes, self.mtimes_s, strict=True)


@dataclass(frozen=True, slots=True)
class Form:
    """A form of a listing: its media type, start and end, and the text of a row."""

    media_type: str
    start: str
    row: Callable[[Row], str]
    separator: str
    end: str


def rows_of(vfs: VFS, path: str) -> Rows:
    """Return the rows of a directory. Raises what `VFS.listdir_known` raises."""
    found = vfs.listdir_known(path)
    return Rows(
        [entry.name + "/" if entry.is_dir else entry.name for entry, _ in found],
        array("q", (stat.size if stat else -1 for _, stat in found)),
        array("q", (stat.mtime_ns // NS if stat else 0 for _, stat in found)),
    )


async def parts(form: Form, rows: Rows, threads: Threads) -> AsyncIterator[str]:
    """Yield the text of a listing; `threads` make BATCH_ROWS rows of it at a time."""
    yield form.start
    for at in range(0, len(rows), BATCH_ROWS):
        yield await threads.run(partial(_batch, form, rows, at))
    yield form.end


def page(path: str) -> Form:
    """Return the form of the page of a directory. All names are escaped; all links are relative.

    The size of a file that was not asked for yet is empty: a listing sends no HEAD requests.
    """
    parent = _PARENT if path else ""
    start = _START.format(title=_shown(f"/{path}"), style=_STYLE, parent=parent)
    return Form("text/html", start, _html_row, "\n", _END)


def _batch(form: Form, rows: Rows, at: int) -> str:
    text = form.separator.join(map(form.row, rows[at : at + BATCH_ROWS]))
    return form.separator + text if at else text


def _html_row(row: Row) -> str:
    name, size, mtime_s = row
    link = quote(os.fsencode(name.rstrip("/")), safe="") + ("/" if name.endswith("/") else "")
    shown = human_size(size) if size >= 0 else ""
    modified = f"{http_time(mtime_s):%Y-%m-%d %H:%M}" if size >= 0 else ""
    return (
        f'<tr><td><a href="{link}">{_shown(name)}</a></td><td>{shown}</td><td>{modified}</td></tr>'
    )


def _json_row(row: Row) -> str:
    name, size, mtime_s = row
    kind = {"name": name.rstrip("/"), "type": "directory" if name.endswith("/") else "file"}
    known = {"size": size, "mtime": http_date(http_time(mtime_s))} if size >= 0 else {}
    return json.dumps({**kind, **known})


def _shown(text: str) -> str:
    return html.escape(printable(text))


JSON = Form("application/json", "[", _json_row, ",", "]")
"""A JSON array of objects with `name`, `type`, `size` in bytes and `mtime`.

`type` is `directory` or `file`. Sizes and times that are not known yet are left out.
"""
