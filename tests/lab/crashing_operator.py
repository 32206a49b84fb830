#!/usr/bin/env python3
"""An operator that dies at its n-th write to the API server: right before it (``KUBECARP_CRASH=3``) or after it (``3+``).

Its last words are what it would write, or wrote.
"""

__all__ = ["EXIT_CODE", "LAST_WORDS"]

import os
import sys
import threading
from typing import Any

from carp_operator.__main__ import main
from carp_operator.kube.api import Api

WHEN = os.environ.get("KUBECARP_CRASH", "0")
NUMBER, AFTER = int(WHEN.removesuffix("+")), WHEN.endswith("+")
EXIT_CODE = 99
LAST_WORDS = "died at "

request = Api.request
one_at_a_time = threading.Lock()
"""Else a death would let through, or not, what other threads were writing."""
written = 0


def crashing_request(self: Api, method: str, path: str, *args: Any, **kwargs: Any) -> Any:
    """The real one, until it is time."""
    global written  # noqa: PLW0603  one process, one count
    if method == "GET":
        return request(self, method, path, *args, **kwargs)
    with one_at_a_time:
        written += 1
        answer = request(self, method, path, *args, **kwargs) if AFTER or written < NUMBER else None
        if written == NUMBER:
            print(f"{LAST_WORDS}{method} {path}", file=sys.stderr, flush=True)
            os._exit(EXIT_CODE)
        return answer


if __name__ == "__main__":
    Api.request = crashing_request  # type: ignore[method-assign]
    sys.exit(main(["run", *sys.argv[1:]], prog_name="carp-operator"))
