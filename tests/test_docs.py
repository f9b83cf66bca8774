"""The documentation is complete and agrees with the code.

`python tests/test_docs.py` writes docs/reference/cli.md and docs/man from the parsers, and the
tables of modules, metrics and libraries.
"""

from __future__ import annotations

import argparse
import ast
import errno
import inspect
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import ego4dfs
from ecosystem import page as libraries_docs
from ecosystem.cases import CASES, FACES, most
from ecosystem.results import expected_keys, recorded
from ego4dfs import errors
from ego4dfs.cli import COMMANDS, help_text, output, parser_of
from ego4dfs.cli.output import EXIT_MEANINGS, ExitCode
from ego4dfs.config import KEYS
from ego4dfs.datasets import known_names
from ego4dfs.errors import errno_of
from ego4dfs.filesystem import Ego4DFileSystem
from ego4dfs.filesystem.os_errors import as_os_errors
from ego4dfs.metrics import Metrics
from kit import architecture_docs, metrics_docs, reliability_docs

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
REFERENCE = DOCS / "reference"
PAGES = [ROOT / "README.md", ROOT / "SECURITY.md", *sorted(DOCS.rglob("*.md"))]

_HIDDEN = argparse.SUPPRESS
_CLI_HEAD = """\
# Commands

`python tests/test_docs.py` generates this page from the parsers; do not edit it.

`ego4dfs --help` prints:

```text
{help}```

Dashes and underscores in options are equivalent, and an option may be abbreviated if it stays
unambiguous. The items of a list are separated by blanks or commas. Options that are keys of
[the configuration](configuration.md) can also be set in the config file or the environment.
"""
_CLI_TAIL = """
Accepted for compatibility with the official tool, without effect:
{hidden}.
"""


def cli_reference() -> str:
    """Return docs/reference/cli.md as it should be."""
    return _CLI_HEAD.format(help=help_text()) + "".join(_command(name) for name in COMMANDS)


def _command(name: str) -> str:
    parser = parser_of(name)
    parts = [f"\n## ego4dfs {name}\n\n{parser.description}\n"]
    for group in parser._action_groups:
        shown = [a for a in group._group_actions if a.help != _HIDDEN]
        if shown:
            about = f"\n{group.title[0].upper()}{group.title[1:]}"
            about += f": {group.description}" if group.description else ""
            parts.append(f"{about}\n\n| | |\n|---|---|\n")
            parts.extend(_row(action) for action in shown)
    hidden = [f"`{s}`" for a in parser._actions if a.help == _HIDDEN for s in a.option_strings]
    if hidden:
        parts.append(_CLI_TAIL.format(hidden=", ".join(hidden)))
    return "".join(parts)


def _row(action: argparse.Action) -> str:
    choices = "|".join(map(str, action.choices)) if action.choices else ""
    value = str(action.metavar or choices or action.dest.upper()) if action.nargs != 0 else ""
    value += " ..." if action.nargs in {"+", "*"} else ""
    spelt = [f"{option} {value}".strip() for option in action.option_strings] or [value]
    cells = [
        ", ".join(f"`{one}`" for one in spelt),
        str(action.help).replace("<", "&lt;").replace("%%", "%"),
    ]
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |\n"


def _table(page: Path) -> Iterator[list[str]]:
    """Yield the cells of every row of the page's tables, without code marks."""
    for line in page.read_text().splitlines():
        if line.startswith("|") and not line.startswith("|---"):
            inner = line.replace("\\|", "\0").strip("|").split("|")
            yield [cell.replace("\0", "|").replace("`", "").strip() for cell in inner]


def _anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", _without_code(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings}


def _without_code(page: Path) -> str:
    return re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)


def _error_classes() -> list[type[errors.Ego4DError]]:
    return [
        kind
        for _, kind in inspect.getmembers(errors, inspect.isclass)
        if issubclass(kind, errors.Ego4DError)
    ]


def test_the_cli_reference_is_what_the_parsers_say():
    written = (REFERENCE / "cli.md").read_text()
    assert written == cli_reference(), "run: python tests/test_docs.py"


def test_the_table_of_reliability_is_what_the_tests_say():
    written = reliability_docs.PAGE.read_text()
    assert written == reliability_docs.page_with_table(written), (
        "run: python tests/kit/reliability_docs.py"
    )


def test_the_architecture_shows_every_module_by_its_docstring():
    written = architecture_docs.PAGE.read_text()
    assert written == architecture_docs.page_with_tables(written), "run: python tests/test_docs.py"


def test_the_table_of_metrics_is_what_a_mount_serves():
    written = metrics_docs.PAGE.read_text()
    assert written == metrics_docs.page_with_table(written), "run: python tests/test_docs.py"


def test_the_table_of_libraries_is_what_their_tests_found():
    written = libraries_docs.PAGE.read_text()
    assert written == libraries_docs.page_with_table(written), "run: python tests/test_docs.py"


def test_every_case_of_a_library_has_a_result_that_its_test_allows():
    results = recorded()
    assert list(results) == expected_keys(), "run: scripts/ecosystem"
    for case in CASES:
        for face in FACES:
            bound = most(case, face)
            if isinstance(bound, str):
                assert results[case.id, face] == bound
            elif bound is not None:
                assert float(results[case.id, face]) <= bound


def test_the_architecture_shows_every_package_in_a_layer():
    shown = architecture_docs.layers()
    for name in set(architecture_docs.top_level()) - {"__init__", "__main__"}:
        assert f"| `{name}` |" in shown


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_has_help(command: str):
    for action in parser_of(command)._actions:
        assert action.help, f"{command}: {action.option_strings or action.dest}"


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_is_in_the_reference(command: str):
    section = (REFERENCE / "cli.md").read_text().split(f"## ego4dfs {command}\n")[1]
    section = section.split("\n## ")[0]
    for action in parser_of(command)._actions:
        for option in action.option_strings:
            assert f"`{option}" in section


def test_every_key_and_variable_of_the_configuration_is_documented():
    rows = {row[0]: row[1] for row in _table(REFERENCE / "configuration.md") if len(row) > 1}
    for key in KEYS:
        assert rows.get(key) == f"EGO4DFS_{key.upper()}"


def test_every_documented_key_of_the_configuration_exists():
    rows = [row for row in _table(REFERENCE / "configuration.md") if len(row) > 1]
    documented = {row[0] for row in rows if row[1] == f"EGO4DFS_{row[0].upper()}"}
    assert documented == set(KEYS)


def test_every_variable_that_the_code_names_is_documented():
    page = (REFERENCE / "configuration.md").read_text()
    code = "".join(path.read_text() for path in (ROOT / "ego4dfs").rglob("*.py"))
    for name in set(re.findall(r"EGO4DFS_[A-Z_]*[A-Z]", code)):
        assert f"`{name}`" in page


def test_every_error_is_documented_for_each_interface():
    rows = {row[0]: row for row in _table(REFERENCE / "errors.md")}
    for kind in _error_classes():
        _, _, in_mount, in_fsspec, code = rows[kind.__name__]
        error = kind("text")
        assert in_mount == errno.errorcode[errno_of(error)], kind
        assert in_fsspec == _in_fsspec(error), kind
        assert code == str(int(output.exit_code(error))), kind


def _in_fsspec(error: errors.Ego4DError) -> str:
    try:
        with as_os_errors("path"):
            raise error
    except OSError as raised:
        return f"{type(raised).__name__}, {errno.errorcode[raised.errno]}"
    except errors.Ego4DError as raised:
        return type(raised).__name__


def test_every_exit_code_is_documented():
    rows = {row[0]: row[1] for row in _table(REFERENCE / "errors.md")}
    for code in ExitCode:
        assert rows[str(int(code))] == EXIT_MEANINGS[code]


def test_every_counter_of_the_status_is_documented():
    rows = {row[0] for row in _table(REFERENCE / "status.md")}
    wanted = {*Metrics().snapshot(), "pid", "cache_bytes", "cache_limit_bytes"}
    assert wanted <= rows


def test_every_known_dataset_is_documented():
    rows = {row[0] for row in _table(REFERENCE / "manifests.md")}
    assert set(known_names()) <= rows


def test_every_public_name_is_exported_and_documented():
    assert sorted(ego4dfs.__all__) == ego4dfs.__all__
    page = (REFERENCE / "python-api.md").read_text()
    for name in ego4dfs.__all__:
        assert getattr(ego4dfs, name) is not None
        assert f"`{name}`" in page


def test_the_python_page_names_only_methods_that_exist():
    page = (REFERENCE / "python-api.md").read_text()
    for variable, kind in (("fs", Ego4DFileSystem), ("ego4d", ego4dfs.Ego4D)):
        methods = re.findall(rf"`{variable}\.(\w+)\(", page)
        assert methods
        for name in methods:
            assert callable(getattr(kind, name))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_have_existing_targets(page: Path):
    for target in re.findall(r"\[[^\]]*\]\(([^)\s]+)\)", _without_code(page)):
        if target.startswith("https://"):
            continue
        path, _, anchor = target.partition("#")
        linked = (page.parent / path).resolve() if path else page
        assert linked.exists(), target
        assert not anchor or anchor in _anchors(linked), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_modules_that_a_page_names_exist(page: Path):
    """As `store/etag.py`, or as `ego4dfs.mount.binding`."""
    text = _without_code(page)
    for name in re.findall(r"`([\w/]+\.py)`", text):
        assert any((place / name).is_file() for place in (ROOT, ROOT / "ego4dfs")), name
    for name in re.findall(r"`(ego4dfs(?:\.\w+)+)`", text):
        module = ROOT / name.replace(".", "/")
        assert module.is_dir() or module.with_suffix(".py").is_file(), name


def test_messages_in_troubleshooting_are_those_of_the_code():
    """Quoted in its headings and its table; an ellipsis stands for what differs each time."""
    nodes = [
        n for p in (ROOT / "ego4dfs").rglob("*.py") for n in ast.walk(ast.parse(p.read_text()))
    ]
    texts = [n.value for n in nodes if isinstance(n, ast.Constant) and isinstance(n.value, str)]
    ours = "\n".join([*texts, *(os.strerror(code) for code in errno.errorcode)]).lower()
    lines = (DOCS / "troubleshooting.md").read_text().splitlines()
    quoted = re.findall(r'"([^"]+)"', "\n".join(line for line in lines if line[:2] in {"##", "| "}))
    assert quoted
    for part in (part for message in quoted for part in message.split("…")):
        assert part.strip(" ,.;").lower() in ours, part


def test_every_page_is_reached_from_the_index():
    index = (DOCS / "index.md").read_text()
    for page in DOCS.rglob("*.md"):
        assert page.name == "index.md" or f"({page.relative_to(DOCS)})" in index


def test_the_index_gives_decisions_their_titles():
    index = (DOCS / "index.md").read_text()
    for page in (DOCS / "adr").glob("*.md"):
        title = page.read_text().partition("\n")[0].removeprefix("# ")
        assert f"- [{title}](adr/{page.name})" in index


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_python_examples_compile(page: Path):
    for code in re.findall(r"^```python\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL):
        ast.parse(code)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_in_examples_exist(page: Path):
    """Each `ego4dfs WORD` in shell examples is a command, and its options are known."""
    blocks = re.findall(
        r"^```(?:sh|console)\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL
    )
    lines = [line.partition("#")[0] for block in blocks for line in block.splitlines()]
    for name, rest in re.findall(r"\bego4dfs ([a-z]+)\b([^|;&']*)", "\n".join(lines)):
        if f"\n## ego4dfs {name}\n" not in (REFERENCE / "cli.md").read_text():
            assert name in {"is", "answers"}, name  # words of messages
            continue
        known = parser_of(name)._option_string_actions
        for option in re.findall(r"(?<!\S)--[a-z][\w-]*", rest.split("\n")[0]):
            assert option in known or f"{option}s" in known, f"{name} {option}"


def test_every_script_is_documented_and_every_documented_script_can_be_run():
    named = set(re.findall(r"scripts/[\w-]+", "".join(page.read_text() for page in PAGES)))
    scripts = {f"scripts/{path.name}" for path in (ROOT / "scripts").iterdir() if path.is_file()}
    assert scripts - named == set()
    for script in (*named, ".ci/run"):
        assert os.access(ROOT / script, os.X_OK), script


if __name__ == "__main__":
    (REFERENCE / "cli.md").write_text(cli_reference())
    architecture_docs.PAGE.write_text(
        architecture_docs.page_with_tables(architecture_docs.PAGE.read_text())
    )
    metrics_docs.PAGE.write_text(metrics_docs.page_with_table(metrics_docs.PAGE.read_text()))
    libraries_docs.PAGE.write_text(libraries_docs.page_with_table(libraries_docs.PAGE.read_text()))
    subprocess.run([ROOT / "scripts/setup", "dev"], check=True)  # argparse-manpage may be missing
    from kit import man_page_docs

    man_page_docs.write()
