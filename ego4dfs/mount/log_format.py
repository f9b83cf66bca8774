"""The form of a mount's log lines: text for people, or one JSON object a line."""

from __future__ import annotations

import json
import logging
from datetime import datetime, timezone

TEXT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


def formatter_of(log_format: str) -> logging.Formatter:
    """Return the formatter of `text` or `json`."""
    return JsonFormatter() if log_format == "json" else logging.Formatter(TEXT)


class JsonFormatter(logging.Formatter):
    """One line for each record: time (RFC 3339, UTC), level, logger, message and pid.

    A record of an exception also has its traceback. Records must have passed a SanitizingHandler,
    which escapes what is not printable and removes passwords.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Return the JSON object, in ASCII."""
        time = datetime.fromtimestamp(record.created, timezone.utc)
        found: dict[str, object] = {
            "time": time.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            "pid": record.process,
        }
        if record.exc_text:
            found["traceback"] = record.exc_text
        return json.dumps(found)
