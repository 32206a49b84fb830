"""Logs of the operator: one JSON object or one line of text per event, with the keys that the sidecar and the agent use."""

__all__ = ["configure"]

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any

_NOISY = {"kopf": logging.ERROR, "urllib3": logging.WARNING, "aiohttp": logging.WARNING, "asyncio": logging.WARNING}
"""Libraries that tell their own business: kopf warns of every watch that ends and begins anew."""


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "msg": record.getMessage(),
        }
        for name, value in getattr(record, "fields", {}).items():
            line.setdefault(name, value)
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


def configure(style: str, level: str) -> None:
    """``style``: json, text, or auto: text on a terminal."""
    handler = logging.StreamHandler(sys.stdout)
    as_text = style == "text" or (style == "auto" and sys.stdout.isatty())
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(message)s") if as_text else _Json())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    for name, lowest in _NOISY.items():
        logging.getLogger(name).setLevel(max(lowest, logging.getLevelName(level.upper())))
