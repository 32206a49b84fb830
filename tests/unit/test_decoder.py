"""The decoder loads the message classes of pyroute2, not pyroute2."""

import subprocess
import sys

_PROGRAM = """
import sys
from carp_sidecar.kernel.decoder import Decoder
links, addresses = Decoder().dump()
assert [link.name for link in links if link.name == "lo"] == ["lo"], links
loaded = [name for name in sys.modules if name.startswith("pyroute2")]
assert len(loaded) < 40, len(loaded)
assert "pyroute2" not in sys.modules, "whoever imports it later gets all of it"
import pyroute2
assert pyroute2.IPRoute
"""


def test_a_tenth_of_the_library_is_enough_and_the_rest_can_still_be_loaded() -> None:
    done = subprocess.run([sys.executable, "-c", _PROGRAM], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
