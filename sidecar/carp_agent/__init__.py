"""The sidecar's link to Kubernetes: configuration down, status up. Holds a token and no capability.

It runs on every node, so its memory is counted: Python with TLS has 17 MB, and what is written here 1 MB. Therefore none of ``typing``,
``dataclasses``, ``logging``, ``pathlib``, ``http.client`` and ``asyncio``, which cost 0.5 to 8 MB each; tests/unit/agent/test_cli.py looks.
"""

__version__ = "0.1.0"
