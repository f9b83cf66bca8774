"""The Grafana dashboard and the queries in docs/guides/monitoring.md name what a mount serves."""

from __future__ import annotations

import json
import re

import pytest

from kit import metrics_docs

pytestmark = pytest.mark.first_pass

DASHBOARD = metrics_docs.PAGE.with_name("grafana-dashboard.json")
NAME = re.compile(r"\b(?:ego4dfs|process)_\w+")


@pytest.fixture(scope="module")
def dashboard():
    return json.loads(DASHBOARD.read_text())


@pytest.fixture(scope="module")
def labels():
    """Return the labels and their values by the name of each sample that a mount serves."""
    found = {"process_resident_memory_bytes": {}}
    for family in metrics_docs.families():
        for sample in family.samples:
            known = found.setdefault(sample.name, {})
            for label, value in sample.labels.items():
                known.setdefault(label, set()).add(value)
    return found


def queries(dashboard) -> list[str]:
    panels = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    variables = [one["query"]["query"] for one in dashboard["templating"]["list"][1:]]
    text = metrics_docs.PAGE.read_text().partition("### Queries")[2]
    rows = re.findall(r"^\| .* \| `(.+)` \|$", text.partition("\n#")[0], re.MULTILINE)
    assert len(rows) > 4
    return [*panels, *variables, *(row.replace("\\|", "|") for row in rows)]


def test_each_metric_of_a_query_is_served(dashboard, labels):
    for query in queries(dashboard):
        names = NAME.findall(query)
        assert names, query
        assert set(names) <= set(labels), query


def test_each_label_and_value_of_a_query_exists(dashboard, labels):
    for query in queries(dashboard):
        for name, selected in re.findall(r"(\w+)\{([^}]*)\}", query):
            for label, texts in re.findall(r'(\w+)(?:=|!=|=~|!~)"([^"]*)"', selected):
                if label != "instance":  # which Prometheus adds
                    assert set(texts.split("|")) <= labels[name][label], query
        for names in re.findall(r"(?:by|without|on) \(([^)]*)\)", query):
            known = {"instance"}.union(*(labels[name] for name in NAME.findall(query)))
            assert set(names.split(", ")) <= known, query


def test_panels_have_ids_of_their_own_and_do_not_overlap(dashboard):
    cells, ids = set(), set()
    for panel in dashboard["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        covered = {
            (place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])
        }
        assert not covered & cells, panel["title"]
        cells |= covered
        ids.add(panel["id"])
        assert panel["datasource"]["uid"] == "${datasource}"
    assert len(ids) == len(dashboard["panels"])
