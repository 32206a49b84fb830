#!/usr/bin/env python3
"""An operator that dies at its n-th write to the API server: right before it (``KUBECARP_CRASH=3``) or after it (``3+``)."""

__all__ = ["EXIT_CODE"]

import os
import sys
from typing import Any

from carp_operator.__main__ import main
from carp_operator.kube.api import Api

WHEN = os.environ.get("KUBECARP_CRASH", "0")
NUMBER, AFTER = int(WHEN.removesuffix("+")), WHEN.endswith("+")
EXIT_CODE = 99

request = Api.request
written = 0


def crashing_request(self: Api, method: str, *args: Any, **kwargs: Any) -> Any:
    """The real one, until it is time."""
    global written  # noqa: PLW0603  one process, one count
    if method == "GET":
        return request(self, method, *args, **kwargs)
    written += 1
    if written == NUMBER and not AFTER:
        os._exit(EXIT_CODE)
    answer = request(self, method, *args, **kwargs)
    if written >= NUMBER:
        os._exit(EXIT_CODE)
    return answer


if __name__ == "__main__":
    Api.request = crashing_request  # type: ignore[method-assign]
    sys.exit(main(["run", *sys.argv[1:]], prog_name="carp-operator"))
