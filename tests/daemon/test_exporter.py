"""Metrics for Prometheus: names, values, formats; the documents and the dashboard name those that there are."""

import json
import re
from collections.abc import Iterator
from dataclasses import fields
from typing import Any

import pytest
from prometheus_client import openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families

from tests.figures_example import BUCKETS, FILL, figures
from tests.test_documents import ROOT
from vbnfs.daemon.exporter import exposition
from vbnfs.metrics import Metrics

FIGURES = figures(
    metrics={"read_bytes": 1 << 30, "read_requests": 7},
    counts=[4, 2, *[0] * (BUCKETS - 3), 1],
    fills=[FILL, FILL],
    cache_problem="the disk is full",
)
DASHBOARD = ROOT / "docs" / "grafana-dashboard.json"
NAME = re.compile(r"\bvbnfs_[a-z_]+")


def samples(**changes: Any) -> dict[str, float]:
    """The values by name; of the histogram by name and bound."""
    text = exposition(lambda: figures(**changes) if changes else FIGURES)[0].decode()
    found: dict[str, float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            bound = sample.labels.get("le")
            found[sample.name if bound is None else f"{sample.name} {bound}"] = sample.value
    return found


def names() -> set[str]:
    """The names that can be asked for."""
    return {name.partition(" ")[0] for name in samples()}


def test_counters() -> None:
    """Each figure that is counted is a counter, whose name ends in `_total`."""
    found = samples()
    assert {f"vbnfs_{one.name}_total" for one in fields(Metrics)} <= found.keys()
    assert found["vbnfs_read_bytes_total"] == 1 << 30


def test_states() -> None:
    """What holds now is a gauge: 1 is well, 0 is not."""
    found = samples()
    assert (found["vbnfs_server_reachable"], found["vbnfs_cache_keeps"]) == (1, 0)
    assert (found["vbnfs_cache_size_bytes"], found["vbnfs_cache_usage_bytes"]) == (100 << 30, 50 << 30)
    assert (found["vbnfs_fill_bytes"], found["vbnfs_fill_done_bytes"]) == (200 << 20, 40 << 20)
    assert samples(is_offline=True)["vbnfs_server_reachable"] == 0


def test_waits_are_a_histogram() -> None:
    """Its buckets are cumulative, and the last one has all reads."""
    found = samples()
    bounds = ("0.001", "0.0025", "30.0", "+Inf")
    assert [found[f"vbnfs_read_wait_seconds_bucket {bound}"] for bound in bounds] == [4, 6, 6, 7]
    assert found["vbnfs_read_wait_seconds_count"] == 7


def test_each_has_the_mount() -> None:
    """The label keeps several mounts of a machine apart: the mount point, also one that is no UTF-8."""
    text = exposition(lambda: figures(mountpoint='/mnt/"a\n\udcff'))[0].decode()
    labels = [sample.labels for family in text_string_to_metric_families(text) for sample in family.samples]
    assert {one["mountpoint"] for one in labels} == {'/mnt/"a\\n\\xff'}


def test_formats() -> None:
    """OpenMetrics for a server that asks for it, else the text format of Prometheus."""
    body, content_type = exposition(lambda: FIGURES, "application/openmetrics-text; version=1.0.0")
    assert content_type.startswith(openmetrics.exposition.CONTENT_TYPE_LATEST.partition(";")[0])
    assert len(list(parse_openmetrics(body.decode()))) > 30
    body, content_type = exposition(lambda: FIGURES, "*/*")
    assert content_type.startswith("text/plain; version=")
    assert b"# EOF" not in body


def test_the_documents_name_them() -> None:
    """docs/watching.md names each metric but the counters, which administration.md has, and no other."""
    text = (ROOT / "docs" / "watching.md").read_text(encoding="utf-8")
    section = text.partition("## Prometheus and Grafana")[2].partition("\n## ")[0]
    counters = {f"vbnfs_{one.name}_total" for one in fields(Metrics)}
    parts = {"vbnfs_read_wait_seconds_" + part for part in ("bucket", "count", "sum")}
    named = set(NAME.findall(section.replace("vbnfs_NAME_total", "")))
    assert named - counters == (names() - counters - parts) | {"vbnfs_read_wait_seconds"}


def expressions(value: Any) -> Iterator[str]:
    """All that a dashboard asks Prometheus."""
    if isinstance(value, dict):
        yield from (one for key in ("expr", "query") if isinstance(one := value.get(key), str))
        value = list(value.values())
    if isinstance(value, list):
        for one in value:
            yield from expressions(one)


def test_the_dashboard_asks_for_metrics_that_there_are() -> None:
    """Each expression of the dashboard names metrics that exist; each panel has its place, title and expression."""
    dashboard = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    asked = [one for one in expressions(dashboard) if one != "prometheus"]
    assert len(asked) > 15
    for one in asked:
        found = set(NAME.findall(one))
        assert found, one
        assert found - names() == set(), one
    panels = dashboard["panels"]
    assert len({panel["id"] for panel in panels}) == len({panel["title"] for panel in panels}) == len(panels)
    cells = [
        (panel["gridPos"]["x"] + dx, panel["gridPos"]["y"] + dy)
        for panel in panels
        for dx in range(panel["gridPos"]["w"])
        for dy in range(panel["gridPos"]["h"])
    ]
    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) < 24


@pytest.mark.parametrize("name", ["mountpoint", "datasource"])
def test_the_dashboard_has_its_variables(name: str) -> None:
    """A user chooses the Prometheus server and the mount."""
    dashboard = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    assert name in {one["name"] for one in dashboard["templating"]["list"]}
    assert f"${name}" in DASHBOARD.read_text(encoding="utf-8").replace("{", "").replace("}", "")


@pytest.mark.parametrize(
    "accept",
    [
        "text/plain;version=x",
        "application/openmetrics-text; version=x.y",
        "application/openmetrics-text; version=1..",
        "text/plain;version=",
        "text/plain;version=2.0\nSet-Cookie: a",
        "," * 5000,
        "\xff;=;",
    ],
)
def test_a_format_that_makes_no_sense(accept: str) -> None:
    """It is answered in a format that there is; nothing of the request gets into the lines of the answer's head."""
    body, content_type = exposition(lambda: FIGURES, accept)
    assert b"vbnfs_read_bytes_total{" in body
    assert content_type.isprintable()


def test_a_mount_point_drives_no_terminal() -> None:
    """Control characters in its name are shown as escapes."""
    text = exposition(lambda: figures(mountpoint="/mnt/\x1b[2J\n\udcff"))[0].decode()
    assert r'{mountpoint="/mnt/\\x1b[2J\\n\\xff"}' in text
