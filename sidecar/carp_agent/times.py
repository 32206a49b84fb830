"""RFC 3339 times, read and written. No clock of its own."""

from __future__ import annotations

__all__ = ["read_time", "write_time"]

from datetime import UTC, datetime


def read_time(text: object) -> float | None:
    """Seconds since 1970; None for what is no time with a zone."""
    try:
        moment = datetime.fromisoformat(str(text))
    except ValueError:
        return None
    return moment.timestamp() if moment.tzinfo is not None else None


def write_time(at: float) -> str:
    """``2026-03-01T12:00:00.123Z``, as the sidecar writes it."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
