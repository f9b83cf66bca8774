"""A directory of the tree as an HTML page, and as JSON in the form of nginx's autoindex."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import os
from collections.abc import Iterable, Sequence
from datetime import datetime, timezone
from urllib.parse import quote

from werkzeug.http import http_date

from ego4dfs.text import human_size, printable
from ego4dfs.vfs import DirEntry, Stat

Row = tuple[DirEntry, Stat | None]

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

_PAGE = """\
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
{rows}
</tbody>
</table>
</html>
"""


def html_page(path: str, rows: Sequence[Row]) -> str:
    """Return the page of a directory. All names are escaped, and every link is relative.

    The size of a file that was not asked for yet is empty: a listing sends no HEAD requests.
    """
    parent = ['<tr><td><a href="../">../</a></td><td></td><td></td></tr>'] if path else []
    lines = [*parent, *map(_html_row, rows)]
    return _PAGE.format(title=_shown(f"/{path}"), style=_STYLE, rows="\n".join(lines))


def json_listing(rows: Iterable[Row]) -> str:
    """Return a JSON array of objects with `name`, `type`, `size` in bytes and `mtime`.

    `type` is `directory` or `file`. Sizes and times that are not known yet are left out.
    """
    return json.dumps([_json_row(entry, stat) for entry, stat in rows])


def link(name: str, *, is_dir: bool) -> str:
    """Return the relative URL of a name, of any bytes."""
    return quote(os.fsencode(name), safe="") + ("/" if is_dir else "")


def _html_row(row: Row) -> str:
    entry, stat = row
    name = _shown(entry.name + ("/" if entry.is_dir else ""))
    size = human_size(stat.size) if stat else ""
    modified = f"{_date(stat):%Y-%m-%d %H:%M}" if stat else ""
    return (
        f'<tr><td><a href="{link(entry.name, is_dir=entry.is_dir)}">{name}</a></td>'
        f"<td>{size}</td><td>{modified}</td></tr>"
    )


def _json_row(entry: DirEntry, stat: Stat | None) -> dict[str, object]:
    kind = {"name": entry.name, "type": "directory" if entry.is_dir else "file"}
    return {**kind, "size": stat.size, "mtime": http_date(_date(stat))} if stat else {**kind}


def _date(stat: Stat) -> datetime:
    return datetime.fromtimestamp(stat.mtime_ns // 1_000_000_000, timezone.utc)


def _shown(text: str) -> str:
    return html.escape(printable(text))
