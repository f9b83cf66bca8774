"""The tables of docs/concepts/scale.md, made from the simulation."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from scaling import design, measured
from scaling.measured import MIB, Measured
from scaling.simulate import Traffic

PAGE = Path(__file__).parents[2] / "docs" / "concepts" / "scale.md"
PICTURE = PAGE.with_suffix(".png")
_BEGIN, _END = "<!-- {}: scripts/scale --write -->\n", "<!-- end of {} -->\n"


def figures() -> Measured:
    """Return the measured figures."""
    return measured.measured(measured.PAGE.read_text())


def tables(found: Measured, results: list[design.Result]) -> dict[str, str]:
    """Return the tables by their names in the page."""
    return {
        "assumptions": _assumptions(found),
        "traffic": _traffic(results),
        "limits": _limits(found, results),
    }


def page_with_tables(page: str, made: dict[str, str]) -> str:
    """Return the page with these tables. Raises ValueError if it has no place for one."""
    for name, table in made.items():
        begin, end = _BEGIN.format(name), _END.format(name)
        head, found, rest = page.partition(begin)
        if not found or end not in rest:
            raise ValueError(f"{PAGE}: no place for the table {name}")
        page = f"{head}{begin}\n{table}\n{end}{rest.partition(end)[2]}"
    return page


def _assumptions(found: Measured) -> str:
    rows = [
        ("a window of 2 s", f"{_mib(found.window_bytes)}, {found.window_requests:.2f} requests"),
        ("the index of a video", f"{_mib(found.index_bytes)}, {found.index_requests:.2f} requests"),
        (
            "a feature",
            f"{found.feature_bytes / 1000:.0f} kB, {found.feature_requests:.0f} requests",
        ),
        ("windows decoded by a core", f"{found.core_windows_s:.1f} a second"),
        ("sizes of 10,000 files", f"{found.list_heads:,.0f} HEAD requests"),
        ("start of a mount", f"{found.start_requests:.0f} requests for manifests"),
    ]
    assumed = [
        (
            "data",
            f"{design.WINDOWS:,} windows of {design.VIDEOS:,} videos; a feature of each video",
        ),
        ("epochs", f"{design.EPOCHS}, each in another random order"),
        ("a node", f"{design.CORES} cores, a cache of {_tb(design.NODE_CACHE_BYTES)}"),
        ("near tier", f"{_tb(design.NEAR_BYTES)}, {design.NEAR_GBIT_S:.0f} Gbit/s in all"),
        ("line to AWS", f"{design.UPLINK_GBIT_S:.0f} Gbit/s, of the whole lab"),
    ]
    return _table(
        ("", "", ""),
        [
            *((name, value, "measured") for name, value in rows),
            *((name, value, "assumed") for name, value in assumed),
        ],
    )


def _traffic(results: Iterable[design.Result]) -> str:
    header = (
        "workload",
        "nodes",
        "requests to S3",
        "from S3",
        "with near tier: requests",
        "from S3",
        "from near",
    )
    rows, last = [], ""
    for one in results:
        alone, near = total(one.alone), total(one.near)
        cells = (
            _count(alone.far_requests),
            _tb(alone.far_bytes),
            _count(near.far_requests),
            _tb(near.far_bytes),
            _tb(near.near_bytes),
        )
        rows.append(("" if one.name == last else one.name, f"{one.nodes:,}", *cells))
        last = one.name
    return _table(header, rows)


def _limits(found: Measured, results: list[design.Result]) -> str:
    rows = [
        (
            one.name,
            one.design,
            f"{_rate(one.node)} {one.unit}",
            f"{_rate(one.total)} {one.unit}",
            f"{one.nodes:,}",
        )
        for one in design.limits(found, results)
    ]
    return _table(("limit", "design", "one node", "there are", "enough for nodes"), rows)


def total(epochs: Iterable[Traffic]) -> Traffic:
    """Return the traffic of all epochs."""
    found = Traffic()
    for one in epochs:
        found = found.minus(one.scaled(-1))
    return found


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _mib(size: float) -> str:
    return f"{size / MIB:.1f} MiB"


def _tb(size: float) -> str:
    """Return a size in three digits, in decimal units, as networks and bills have them."""
    for unit, length in (("PB", 1e15), ("TB", 1e12)):
        if size >= length:
            return f"{size / length:.3g} {unit}"
    return f"{size / 1e9:.3g} GB"


def _count(value: float) -> str:
    for unit, length in (("G", 1e9), ("M", 1e6)):
        if value >= length:
            return f"{value / length:.3g} {unit}"
    return f"{value / 1e3:.3g} k"


def _rate(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.1f}"
