"""Metrics by OTLP: what a collector receives from a mount, and what cannot hurt the mount."""

from __future__ import annotations

import gzip
import socket
import sys
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)

from ego4dfs.metrics import DURATION_BOUNDS_S, Metrics
from ego4dfs.mount import otlp_export
from kit.data import MIB, seeded
from kit.metrics import of_status
from kit.mounts import is_mounted
from kit.processes import wait_until

pytestmark = pytest.mark.first_pass

ABOUT = {"version": "1", "mountpoint": "/m"}
ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"


class Collector(HTTPServer):
    """An OTLP collector on loopback that keeps what it receives; `answer` is its status."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.answer = 200
        self.received = []


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        data = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers.get("Content-Encoding") == "gzip":
            data = gzip.decompress(data)
        self.server.received.append((self.path, ExportMetricsServiceRequest.FromString(data)))
        self.send_response(self.server.answer)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


@contextmanager
def collecting():
    with Collector() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def collector():
    with collecting() as server:
        yield server


def status_of(metrics):
    cache = {"cache_bytes": 1, "cache_limit_bytes": 2, "cache_state": "ok"}
    return {**metrics.snapshot(), **cache}


def values(request):
    """Return the value of each point by name and labels, as `kit.metrics.samples` does."""
    found = {}
    for metric in request.resource_metrics[0].scope_metrics[0].metrics:
        kind = metric.WhichOneof("data")
        for point in getattr(metric, kind).data_points:
            labels = tuple(one.value.string_value for one in point.attributes)
            if kind != "histogram":
                value = getattr(point, point.WhichOneof("value"))
                found[metric.name, labels] = value
                continue
            total = 0
            bounds = [*map(str, point.explicit_bounds), "+Inf"]
            for bound, count in zip(bounds, point.bucket_counts, strict=True):
                total += count
                found[f"{metric.name}_bucket", (*labels, bound)] = total
            found[f"{metric.name}_sum", labels] = point.sum
            found[f"{metric.name}_count", labels] = point.count
    return found


def exporter(environ, metrics=None):
    counters = metrics or Metrics()
    return otlp_export(environ, lambda: status_of(counters), ABOUT)


def test_the_names_and_values_are_those_of_prometheus(collector, monkeypatch):
    monkeypatch.setenv(ENDPOINT, collector.url)
    metrics = Metrics()
    for seconds in (0.001, 0.3, 100.0):
        metrics.add_request("get")
        metrics.add_result("get", "ok", seconds)
    metrics.add_bytes_served(10, from_cache=4)
    one = exporter({ENDPOINT: collector.url}, metrics)
    one.send()
    one.close()
    ((path, request),) = collector.received
    assert path == "/v1/metrics"
    found, wanted = values(request), of_status(status_of(metrics))
    assert {key: found[key] for key in wanted} == pytest.approx(wanted)
    others = {name for name, _ in found.keys() - wanted.keys()}
    assert others == {"ego4dfs_mount_info", "ego4dfs_start_time_seconds"}
    assert found["ego4dfs_store_request_duration_seconds_count", ("get",)] == 3
    by_name = {one.name: one for one in request.resource_metrics[0].scope_metrics[0].metrics}
    counter = by_name["ego4dfs_read_bytes_total"].sum
    assert (counter.is_monotonic, counter.aggregation_temporality) == (True, 2)
    assert counter.data_points[0].start_time_unix_nano < counter.data_points[0].time_unix_nano
    histogram = by_name["ego4dfs_store_request_duration_seconds"].histogram.data_points[0]
    assert tuple(histogram.explicit_bounds) == DURATION_BOUNDS_S


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {ENDPOINT: ""},
        {ENDPOINT: "http://127.0.0.1:9", "OTEL_SDK_DISABLED": "True"},
        {ENDPOINT: "http://127.0.0.1:9", "OTEL_METRICS_EXPORTER": "none"},
    ],
)
def test_nothing_is_sent_unless_it_was_asked_for(environ):
    assert exporter(environ) is None


def resource(collector, monkeypatch, **environ):
    """Return the attributes of what an exporter sends as."""
    for name, text in {ENDPOINT: collector.url, **environ}.items():
        monkeypatch.setenv(name, text)
    one = exporter({ENDPOINT: collector.url})
    one.send()
    one.close()
    attributes = collector.received[-1][1].resource_metrics[0].resource.attributes
    return {one.key: one.value.string_value for one in attributes}


def test_each_mount_sends_a_series_of_its_own(collector, monkeypatch):
    first, second = (resource(collector, monkeypatch) for _ in range(2))
    assert first["service.name"] == second["service.name"] == "ego4dfs"
    assert first["service.instance.id"] != second["service.instance.id"]
    given = {"OTEL_SERVICE_NAME": "lab", "OTEL_RESOURCE_ATTRIBUTES": "service.instance.id=7,a=b"}
    found = resource(collector, monkeypatch, **given)
    assert (found["service.name"], found["service.instance.id"], found["a"]) == ("lab", "7", "b")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("", 60), ("5000", 5), ("1", 1), ("x", 60), ("9" * 15, 86400), ("9" * 5000, 86400)],
)
def test_the_interval_is_that_of_the_environment(text, seconds, caplog, monkeypatch):
    found = []
    monkeypatch.setattr(
        "ego4dfs.mount.otlp_export.PeriodicThread", lambda _, every_s, **__: found.append(every_s)
    )
    exporter({ENDPOINT: "http://127.0.0.1:9", "OTEL_METRIC_EXPORT_INTERVAL": text})
    assert found == [seconds]
    assert ("OTEL_METRIC_EXPORT_INTERVAL" in caplog.text) == (text == "x")


def test_without_opentelemetry_the_log_names_what_to_install(monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "ego4dfs.mount.otlp_export", None)
    assert exporter({ENDPOINT: "http://127.0.0.1:9"}) is None
    assert "pip install 'ego4dfs[otlp]'" in caplog.text


def test_no_value_of_a_header_is_logged(collector, monkeypatch, caplog):
    """A header may be a credential; the library would print one that it cannot read."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "authorization Bearer secret,a=b")
    resource(collector, monkeypatch)
    assert "secret" not in caplog.text
    assert "OTEL_EXPORTER_OTLP_HEADERS: an entry that is not name=value" in caplog.text


def test_a_collector_that_refuses_is_logged_and_asked_again(collector, monkeypatch, caplog):
    monkeypatch.setenv(ENDPOINT, collector.url)
    collector.answer = 400
    one = exporter({ENDPOINT: collector.url})
    one.send()
    one.send()
    one.close()
    assert len(collector.received) == 2
    assert "the collector did not accept them" in caplog.text


def test_an_exception_of_the_library_ends_nothing(monkeypatch, caplog):
    one = exporter({ENDPOINT: "http://127.0.0.1:9"})
    monkeypatch.setattr(one, "_data", lambda: 1 / 0)
    one.send()
    one.close()
    assert "metrics cannot be sent by OTLP: ZeroDivisionError" in caplog.text


@pytest.mark.fuse
def test_a_mount_sends_its_counters_at_its_end(mount, release, licensee, collector):
    release.dataset("annotations", {"a.bin": seeded("a", MIB)})
    arguments = ("--version", release.version, "--datasets", "annotations")
    root = mount(*arguments, env={**licensee, ENDPOINT: collector.url})
    (root / release.version / "annotations/a.bin").read_bytes()
    mount.unmount(root)
    _, request = wait_until(lambda: collector.received)[-1]
    found = values(request)
    read = [found["ego4dfs_read_bytes_total", (source,)] for source in ("store", "cache")]
    assert sum(read) == MIB
    (labels,) = (labels for name, labels in found if name == "ego4dfs_mount_info")
    assert str(root) in labels


def test_a_variable_that_the_library_refuses_is_logged(monkeypatch, caplog):
    def refuse(*_, **__):
        raise ValueError("no such file")

    monkeypatch.setattr("ego4dfs.mount.otlp_export.OTLPMetricExporter", refuse)
    assert exporter({ENDPOINT: "http://127.0.0.1:9"}) is None
    assert "no metrics are sent by OTLP: ValueError: no such file" in caplog.text


@pytest.mark.fault(
    area="network",
    fault="a collector of metrics that takes connections and never answers",
    face="mount",
    sees="reads and the unmount as without it",
    deadline="0.5 s at the unmount",
)
@pytest.mark.fuse
def test_a_collector_that_hangs_delays_no_read_and_no_unmount(mount, release, licensee):
    release.dataset("annotations", {"a.bin": seeded("a", MIB)})
    arguments = ("--version", release.version, "--datasets", "annotations")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        more = {ENDPOINT: url, "OTEL_METRIC_EXPORT_INTERVAL": "1000"}
        root = mount(*arguments, env={**licensee, **more})
        connection, _ = silent.accept()  # it has begun to send, and waits for an answer
        with connection:
            data = (root / release.version / "annotations/a.bin").read_bytes()
            assert data == seeded("a", MIB)
            mount.unmount(root)  # which waits until the process has ended
            assert not is_mounted(root)
