"""The generated parts of docs/concepts/architecture.md: the layers, and one line for each module.

The layers come from the import contracts in pyproject.toml, the lines from the docstrings of the
modules. `python tests/test_docs.py` writes them.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from importlinter.api import read_configuration

ROOT = Path(__file__).parent.parent.parent
PACKAGE = ROOT / "ego4dfs"
PAGE = ROOT / "docs" / "concepts" / "architecture.md"
NAMES = ("layers", "modules")
BEGIN, END = "<!-- {}: python tests/test_docs.py -->\n", "<!-- end of {} -->\n"


def page_with_tables(page: str) -> str:
    """Return the page with its generated parts as the sources have them now."""
    for name, text in zip(NAMES, (layers(), modules()), strict=True):
        head, begin, rest = page.partition(BEGIN.format(name))
        _, end, tail = rest.partition(END.format(name))
        if not (begin and end):
            raise ValueError(f"{PAGE}: no place for {name}")
        page = f"{head}{begin}\n{text}\n{end}{tail}"
    return page


def layers() -> str:
    """Return the layers of the import contract, the highest first."""
    contracts = read_configuration(str(ROOT / "pyproject.toml"))["contracts_options"]
    (contract,) = (one for one in contracts if one["type"] == "layers")
    lines = ["| Layer | Package or module | |", "|---|---|---|"]
    for number, layer in enumerate(reversed(contract["layers"]), 1):
        names = [name.strip().removeprefix("ego4dfs.") for name in layer.split("|")]
        rows = [f"`{name}` | {_about(_source(PACKAGE / name))} |" for name in names]
        lines[2:2] = [f"| {number} | {rows[0]}", *(f"| | {row}" for row in rows[1:])]
    return "".join(f"{line}\n" for line in lines)


def modules() -> str:
    """Return a table of the modules of each package, the top level first."""
    parts = [_table("ego4dfs", PACKAGE)]
    packages = sorted(init.parent for init in PACKAGE.rglob("*/__init__.py"))
    parts += [_table(_dotted(package), package) for package in packages]
    return "\n".join(parts)


def _table(title: str, package: Path) -> str:
    about = _about(package / "__init__.py")
    paths = [path for path in sorted(package.glob("*.py")) if path.name != "__init__.py"]
    lines = [f"| `{path.relative_to(PACKAGE)}` | {_about(path)} |" for path in paths]
    return "\n".join([f"### {title}\n", f"{about}\n", "| Module | |", "|---|---|", *lines, ""])


def top_level() -> Iterator[str]:
    """Yield the names of the packages and modules directly below ego4dfs/."""
    for path in sorted(PACKAGE.iterdir()):
        if path.suffix == ".py" or (path / "__init__.py").is_file():
            yield path.stem


def _dotted(package: Path) -> str:
    return ".".join(("ego4dfs", *package.relative_to(PACKAGE).parts))


def _source(name: Path) -> Path:
    return name / "__init__.py" if name.is_dir() else name.with_suffix(".py")


def _about(path: Path) -> str:
    """Return line 1 of a module's docstring, for a cell of a table."""
    text = ast.get_docstring(ast.parse(path.read_text())) or ""
    line = text.partition("\n")[0]
    if not line.endswith("."):
        raise ValueError(f"{path}: line 1 of the docstring must be a sentence: {line!r}")
    return line.replace("|", "\\|")
