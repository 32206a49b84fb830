"""An HTTP answer, before it is one."""

__all__ = ["Page"]

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Page:
    """One answer."""

    status: int
    body: bytes
    content_type: str = "text/plain; charset=utf-8"
