"""The table of metrics in docs/guides/monitoring.md, made from what a mount serves.

`python tests/test_docs.py` writes it.
"""

from __future__ import annotations

from pathlib import Path

from prometheus_client import Metric

from ego4dfs.metrics import Metrics
from ego4dfs.mount.prometheus_metrics import MountCollector

PAGE = Path(__file__).parents[2] / "docs" / "guides" / "monitoring.md"
BEGIN, END = "<!-- metrics: python tests/test_docs.py -->\n", "<!-- end of metrics -->\n"
SUFFIXES = {"counter": "_total", "info": "_info"}


def page_with_table(page: str) -> str:
    """Return the page with its table as the code has it now."""
    head, _, rest = page.partition(BEGIN)
    rows = [
        f"| `{name_of(one)}` | {one.type} | {_labels(one)} | {one.documentation} |\n"
        for one in families()
    ]
    table = "| Metric | Type | Labels | |\n|---|---|---|---|\n" + "".join(rows)
    return f"{head}{BEGIN}\n{table}\n{END}{rest.partition(END)[2]}"


def families() -> list[Metric]:
    """Return the metrics of a mount that has just started."""
    cache = {"cache_bytes": 0, "cache_limit_bytes": 0, "cache_state": "ok"}
    status = {**Metrics().snapshot(), **cache}
    return list(MountCollector(lambda: status, {"version": "", "mountpoint": ""}).collect())


def name_of(family: Metric) -> str:
    """Return the name by which Prometheus queries it; a histogram has three, which begin so."""
    return family.name + SUFFIXES.get(family.type, "")


def _labels(family: Metric) -> str:
    """Return the labels, with their values if there are few that the code knows."""
    found: dict[str, dict[str, None]] = {}
    for sample in family.samples:
        for label, value in sample.labels.items():
            if label != "le":
                found.setdefault(label, {})[value] = None
    texts = []
    for label, values in found.items():
        known = ", ".join(f"`{value}`" for value in values if value)
        texts.append(f"`{label}`: {known}" if known else f"`{label}`")
    return "; ".join(texts)
