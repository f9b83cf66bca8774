"""MkDocs hooks: read the menu from docs/index.md, and add SECURITY.md as a page."""

from __future__ import annotations

import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parent.parent.parent
_SECURITY = "security.md"
_LINK = re.compile(r"^- \[([^\]]+)\]\(([^)#]+\.md)\)", re.MULTILINE)


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Set the menu: each heading of docs/index.md is a section, each list item a page."""
    text = _with_security_page((Path(config.docs_dir) / "index.md").read_text())
    sections = re.split(r"^## ", text, flags=re.MULTILINE)[1:]
    menu = [{s.splitlines()[0]: [{t: page} for t, page in _LINK.findall(s)]} for s in sections]
    config.nav = [{"Home": "index.md"}, *menu]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add SECURITY.md, which is not in docs/ because GitHub expects it at the top."""
    text = (ROOT / "SECURITY.md").read_text().replace("](docs/", "](")
    files.append(File.generated(config, _SECURITY, content=text))
    return files


def on_page_markdown(markdown: str, **_: object) -> str:
    """Change links to SECURITY.md to its page."""
    return _with_security_page(markdown)


def on_page_content(html: str, **_: object) -> str:
    r"""Unescape `\|` in code in tables: GitHub needs the backslash there, and MkDocs shows it."""
    return re.sub(r"<td.*?</td>", lambda cell: cell[0].replace("\\|", "|"), html, flags=re.DOTALL)


def _with_security_page(markdown: str) -> str:
    return markdown.replace("](../SECURITY.md", f"]({_SECURITY}")
