"""The man pages in docs/man, made from the parsers by argparse-manpage.

`python tests/test_docs.py` writes them; the wheel installs them below share/man.
"""

from __future__ import annotations

from pathlib import Path

from argparse_manpage.manpage import Manpage

from ego4dfs import __version__
from ego4dfs.cli import COMMANDS, SUMMARY, parser_of
from ego4dfs.cli.output import EXIT_MEANINGS
from ego4dfs.cli.parser import Parser

DIRECTORY = Path(__file__).parents[2] / "docs" / "man"

_EXAMPLES = """\
.nf
ego4dfs mount ~/ego4d \\-\\-datasets full_scale annotations
ls ~/ego4d/v2/full_scale
ego4dfs status ~/ego4d
ego4dfs unmount ~/ego4d
.fi"""


def pages() -> dict[str, str]:
    """Return the text of every page by its file name."""
    texts = {f"ego4dfs-{name}.1": _command_page(name) for name in COMMANDS}
    return {"ego4dfs.1": _program_page(), **texts}


def write() -> None:
    """Write all pages, and remove those of commands that no longer exist."""
    DIRECTORY.mkdir(exist_ok=True)
    texts = pages()
    for path in DIRECTORY.iterdir():
        if path.name not in texts:
            path.unlink()
    for name, text in texts.items():
        (DIRECTORY / name).write_text(text)


def _program_page() -> str:
    parser = Parser(prog="ego4dfs", description=SUMMARY, add_help=False)
    parser.usage = "ego4dfs COMMAND [OPTIONS]"
    page = _page(parser, "ego4dfs", "mount Ego4D as a directory, or download it")
    commands = [f".TP\n.BR ego4dfs\\-{name} (1)\n{line}" for name, line in COMMANDS.items()]
    page.add_section("commands", "=", "\n".join(commands))
    page.add_section("examples", "=", _EXAMPLES)
    return str(page)


def _command_page(name: str) -> str:
    parser = parser_of(name)
    parser.epilog = None
    parser.format_help()  # sets the short usage line
    page = _page(parser, f"ego4dfs-{name}", COMMANDS[name])
    page.add_section("see also", "=", ".BR ego4dfs (1)")
    return str(page)


def _page(parser: Parser, title: str, line: str) -> Manpage:
    data = {"project_name": "ego4dfs", "version": __version__, "manual_title": "ego4dfs manual"}
    page = Manpage(parser, {**data, "description": line})
    page.prog = title
    page.date = ""  # a date of today would make every build differ
    exits = [f".TP\n.B {code.value}\n{meaning}" for code, meaning in EXIT_MEANINGS.items()]
    page.add_section("exit status", "=", "\n".join(exits))
    return page
