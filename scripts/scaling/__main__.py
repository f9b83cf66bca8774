"""Print the tables of docs/concepts/scale.md, or write them and the picture."""

from __future__ import annotations

import argparse
import sys

from scaling import design
from scaling.page import PAGE, PICTURE, figures, page_with_tables, tables


def main() -> int:
    """Simulate, and print or write."""
    parser = argparse.ArgumentParser(prog="scripts/scale", description=__doc__)
    parser.add_argument("--write", action="store_true", help="write the page and its picture")
    given = parser.parse_args()
    found = figures()
    results = design.results(found)
    made = tables(found, results)
    if not given.write:
        print(*made.values(), sep="\n", end="")
        return 0
    from scaling.plot import draw  # noqa: PLC0415 - it needs matplotlib

    PAGE.write_text(page_with_tables(PAGE.read_text(), made))
    draw(results, PICTURE)
    return 0


if __name__ == "__main__":
    sys.exit(main())
