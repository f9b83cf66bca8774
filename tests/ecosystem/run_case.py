"""Run one case and compare with a local copy: `python run_case.py NUMBER ROOT COPIES`.

It has a process of its own: a library that crashes or keeps threads cannot disturb the next one.
Prints JSON: whether the results are equal, or what was raised.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np


def is_same(one: Any, other: Any) -> bool:
    """Return whether two results are equal, bit by bit, and not empty."""
    if isinstance(one, np.ndarray):
        return one.dtype == other.dtype and one.size > 0 and np.array_equal(one, other)
    return bool(one) and type(one) is type(other) and one == other


def outcome(number: int, root: str, copies: str) -> dict[str, Any]:
    """Return {"same": ...}, or {"raised": ...} with the name and the text of an error."""
    from ecosystem.cases import CASES

    case = CASES[number]
    expected = case.copy_reader(f"{copies}/{case.file}")
    try:
        found = case.read(f"{root}/{case.file}")
    except Exception as error:  # noqa: BLE001 - what a library raises is the result
        return {"raised": f"{type(error).__name__}: {error}"}
    return {"same": is_same(expected, found)}


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))
    sys.path.remove(str(Path(__file__).parent))
    with tempfile.TemporaryDirectory() as directory:
        tempfile.tempdir = directory
        print(json.dumps(outcome(int(sys.argv[1]), *sys.argv[2:])))
