"""The table of docs/reliability.md, made from the `fault` marks of the tests.

A mark holds literals only, so it is read without an import of the test:

    @pytest.mark.fault(
        area="network", fault="a body that trickles", face="mount",
        sees="the read fails with EIO", deadline="60 s",
    )

`python tests/kit/reliability_docs.py` rewrites the table.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

TESTS = Path(__file__).parents[1]
PAGE = TESTS.parent / "docs" / "reliability.md"
BEGIN, END = "<!-- table: python tests/kit/reliability_docs.py -->\n", "<!-- end of the table -->\n"
FIELDS = ("area", "fault", "face", "sees", "deadline")
AREAS = {
    "network": "The network and the store",
    "answers": "What the store answers",
    "keys": "Keys and settings",
    "processes": "Other processes and the machine",
    "mount": "The mount",
    "disk": "The disk and its files",
    "input": "Manifests, records and lists",
    "terminal": "The terminal",
}


def page_with_table(page: str) -> str:
    """Return the page with its table as the tests have it now."""
    head, _, rest = page.partition(BEGIN)
    return head + BEGIN + table() + END + rest.partition(END)[2]


def table() -> str:
    """Return one section for each area that has marked tests."""
    rows = [row for path in sorted(TESTS.glob("test_*.py")) for row in _rows(path)]
    text = ""
    for area, title in AREAS.items():
        lines = sorted({line for of, line in rows if of == area}, key=str.lower)
        if lines:
            text += f"\n## {title}\n\n| Fault | Through | What the user sees | Deadline | Test |\n"
            text += "|---|---|---|---|---|\n" + "".join(f"{line}\n" for line in lines)
    return text + "\n"


def _rows(path: Path) -> Iterator[tuple[str, str]]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            for mark in filter(_is_fault, node.decorator_list):
                assert isinstance(mark, ast.Call)
                fields = {k.arg: ast.literal_eval(k.value) for k in mark.keywords}
                missing = [field for field in FIELDS if not fields.get(field)]
                if missing or fields["area"] not in AREAS:
                    raise ValueError(f"{path.name}: {node.name}: {missing or fields['area']}")
                cells = [
                    *(str(fields[field]) for field in FIELDS[1:]),
                    f"`{path.stem}::{node.name}`",
                ]
                yield fields["area"], "| " + " | ".join(cells) + " |"


def _is_fault(mark: ast.expr) -> bool:
    return isinstance(mark, ast.Call) and ast.unparse(mark.func) == "pytest.mark.fault"


if __name__ == "__main__":
    PAGE.write_text(page_with_table(PAGE.read_text()))
