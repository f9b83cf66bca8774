"""Whether the counters of a mount are sent by OTLP: the variables of OpenTelemetry say so."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ego4dfs.mount.otlp_export import OtlpExport

log = logging.getLogger(__name__)

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_INTERVAL = "OTEL_METRIC_EXPORT_INTERVAL"
_DEFAULT_MS, _LEAST_MS, _MOST_MS = 60_000, 1_000, 86_400_000
_MAX_DIGITS = 18  # Python does not read numbers of thousands of digits


def otlp_export(
    environ: Mapping[str, str],
    status: Callable[[], Mapping[str, Any]],
    about: Mapping[str, str],
) -> OtlpExport | None:
    """Return an exporter, not started, if an endpoint is set and OpenTelemetry is installed.

    OTEL_SDK_DISABLED=true and OTEL_METRICS_EXPORTER=none switch it off.
    """
    if not any(environ.get(name) for name in _ENDPOINTS) or _is_off(environ):
        return None
    try:
        # Imported late: it is an extra.
        from ego4dfs.mount.otlp_export import OtlpExport  # noqa: PLC0415
    except ImportError:
        log.warning(
            "no metrics are sent by OTLP, because OpenTelemetry is not installed: pip install"
            " 'ego4dfs[otlp]'"
        )
        return None
    try:
        return OtlpExport(status, about, _interval_s(environ))
    except Exception as error:  # noqa: BLE001 - a variable that the library refuses ends no mount
        log.warning("no metrics are sent by OTLP: %s: %s", type(error).__name__, error)
        return None


def _is_off(environ: Mapping[str, str]) -> bool:
    is_disabled = environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"
    return is_disabled or environ.get("OTEL_METRICS_EXPORTER", "otlp").strip() == "none"


def _interval_s(environ: Mapping[str, str]) -> float:
    text = environ.get(_INTERVAL, "").strip() or str(_DEFAULT_MS)
    if not (text.isascii() and text.isdecimal()):
        log.warning("%s=%r is no number of milliseconds; it is %d", _INTERVAL, text, _DEFAULT_MS)
        return _DEFAULT_MS / 1000
    given_ms = int(text) if len(text) <= _MAX_DIGITS else _MOST_MS
    return min(max(_LEAST_MS, given_ms), _MOST_MS) / 1000
