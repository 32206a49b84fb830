"""Entry point of ``carp-agent`` and ``python -m carp_agent``."""

__all__ = ["main"]

import sys

from carp_agent.cli import main

if __name__ == "__main__":
    sys.exit(main())
