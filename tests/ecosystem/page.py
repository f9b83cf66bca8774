"""The table in docs/guides/libraries.md, made from the cases and their recorded results."""

from __future__ import annotations

from pathlib import Path

from ecosystem.cases import CASES, Case, most
from ecosystem.results import Results, recorded

PAGE = Path(__file__).parents[2] / "docs" / "guides" / "libraries.md"
BEGIN, END = "<!-- table: python tests/test_docs.py -->\n", "<!-- end of the table -->\n"
_NAMES = {
    "av": "PyAV",
    "cv2": "OpenCV",
    "datasets": "Hugging Face datasets",
    "ego4d": "ego4d.research",
    "upath": "universal_pathlib",
    "torch": "PyTorch",
}


def page_with_table(page: str) -> str:
    """Return the page with its table as cases and results have it now."""
    head, begin, rest = page.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"{PAGE}: no place for the table")
    results = recorded()
    rows = "".join(_row(case, results) for case in CASES)
    title = "\n| Library | Call | Mount | `ego4d://` |\n|---|---|---|---|\n"
    return f"{head}{begin}{title}{rows}\n{end}{tail}"


def _row(case: Case, results: Results) -> str:
    cells = [_cell(case, face, results) for face in ("mount", "url")]
    return f"| {_NAMES.get(case.library, case.library)} | {case.how} | {' | '.join(cells)} |\n"


def _cell(case: Case, face: str, results: Results) -> str:
    bound, result = most(case, face), results.get((case.id, face), "?")
    if bound is None:
        return "–"
    return f"`{result}`" if isinstance(bound, str) else f"{result} MiB (≤ {bound:g})"
