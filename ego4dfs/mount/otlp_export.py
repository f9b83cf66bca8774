"""The counters of a mount sent to an OpenTelemetry collector, by OTLP over HTTP."""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Gauge,
    Histogram,
    HistogramDataPoint,
    Metric,
    MetricExportResult,
    MetricsData,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
)
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from prometheus_client.core import Metric as Family
from prometheus_client.samples import Sample

from ego4dfs.mount.prometheus_metrics import MountCollector
from ego4dfs.runtime.periodic_thread import PeriodicThread

log = logging.getLogger(__name__)

SEND_S = 10.0
"""Limit of one attempt, with its retries: the collector may hang."""

_CLOSE_S = 0.5
_HEADERS_LOGGER = "opentelemetry.util.re"


class OtlpExport:
    """Sends the metrics that Prometheus would read, in a thread of its own, and at the end.

    Where to is said by the variables of OpenTelemetry, such as OTEL_EXPORTER_OTLP_ENDPOINT.
    Nothing waits for it, except `close` for half a second.
    """

    def __init__(
        self,
        status: Callable[[], Mapping[str, Any]],
        about: Mapping[str, str],
        every_s: float,
    ) -> None:
        """Send what `status` returns; `about` are labels of the mount. Starts no thread."""
        self._collector = MountCollector(status, about)
        self._resource = _resource()
        self._scope = InstrumentationScope("ego4dfs", about.get("version"))
        self._began_ns = time.time_ns()
        logging.getLogger(_HEADERS_LOGGER).addFilter(_without_values)
        self._exporter = OTLPMetricExporter(timeout=SEND_S)
        self._thread = PeriodicThread(self.send, every_s, name="otlp")

    def start(self) -> None:
        """Start the thread; without one nothing is sent."""
        self._thread.start()

    def close(self) -> None:
        """Send a last time, and wait _CLOSE_S for it at most."""
        self._thread.close(_CLOSE_S)
        self._exporter.shutdown()  # ends its retries

    def send(self) -> None:
        """Send once; a failure is logged, and the next time has all that was counted."""
        try:
            done = self._exporter.export(self._data())
        except Exception as error:  # noqa: BLE001 - no failure of the library may end the thread
            log.warning("metrics cannot be sent by OTLP: %s", type(error).__name__)
            return
        if done is not MetricExportResult.SUCCESS:
            log.warning("metrics cannot be sent by OTLP: the collector did not accept them")

    def _data(self) -> MetricsData:
        now_ns = time.time_ns()
        metrics = [_metric(one, self._began_ns, now_ns) for one in self._collector.collect()]
        scope = ScopeMetrics(self._scope, metrics, "")
        return MetricsData([ResourceMetrics(self._resource, [scope], "")])


def _without_values(record: logging.LogRecord) -> bool:
    """Keep headers, which may be credentials, out of the log: the library prints malformed ones."""
    record.msg = (
        "OTEL_EXPORTER_OTLP_HEADERS: an entry that is not name=value, URL-encoded, is not sent"
    )
    record.args = ()
    return True


def _resource() -> Resource:
    """Return what says whose metrics these are; the variables of OpenTelemetry come first.

    The instance makes the counters of each mount series of their own:
    https://opentelemetry.io/docs/specs/semconv/resource/service/
    """
    ours = Resource({"service.name": "ego4dfs", "service.instance.id": str(uuid.uuid4())})
    return Resource.create(ours.merge(OTELResourceDetector().detect()).attributes)


def _metric(family: Family, began_ns: int, now_ns: int) -> Metric:
    """Return a metric with the name by which Prometheus knows it, such as `..._total`."""
    if family.type == "histogram":
        points = [_histogram(one, began_ns, now_ns) for one in _by_labels(family.samples)]
        data: Any = Histogram(points, AggregationTemporality.CUMULATIVE)
        return Metric(family.name, family.documentation, "s", data)
    points_of = [
        NumberDataPoint(dict(sample.labels), began_ns, now_ns, sample.value)
        for sample in family.samples
    ]
    if family.type == "counter":
        data = Sum(points_of, AggregationTemporality.CUMULATIVE, is_monotonic=True)
    else:
        data = Gauge(points_of)
    return Metric(family.samples[0].name, family.documentation, "", data)


def _by_labels(samples: Iterable[Sample]) -> list[list[Sample]]:
    found: dict[tuple[tuple[str, str], ...], list[Sample]] = {}
    for sample in samples:
        key = tuple((name, text) for name, text in sample.labels.items() if name != "le")
        found.setdefault(key, []).append(sample)
    return list(found.values())


def _histogram(samples: list[Sample], began_ns: int, now_ns: int) -> HistogramDataPoint:
    """Return one histogram; Prometheus counts what is at most a bound, OTLP what is between two."""
    buckets = [one for one in samples if "le" in one.labels]
    totals = [int(one.value) for one in buckets]
    (size,) = (one.value for one in samples if one.name.endswith("_sum"))
    return HistogramDataPoint(
        attributes={name: text for name, text in samples[0].labels.items() if name != "le"},
        count=totals[-1],
        sum=size,
        bucket_counts=[now - before for before, now in zip([0, *totals], totals, strict=False)],
        explicit_bounds=[float(one.labels["le"]) for one in buckets[:-1]],
        min=float("inf"),
        max=float("-inf"),
        start_time_unix_nano=began_ns,
        time_unix_nano=now_ns,
    )
