"""Entry point of ``carp-sidecar`` and ``python -m carp_sidecar``."""

__all__ = ["main"]

import sys

from carp_sidecar.cli import main

if __name__ == "__main__":
    sys.exit(main())
