"""Rules between the groups of one configuration."""

from typing import Any

import pytest

from carp_protocol.config_reader import read_document
from carp_protocol.errors import ConfigError


def read(*groups: dict[str, Any]) -> None:
    tables = [{"name": f"g{number}", "authentication": {"key": "9f" * 32}} | group for number, group in enumerate(groups)]
    read_document({"group": tables}, load_key=lambda _path: b"")


@pytest.mark.parametrize("where", [{}, {"interface_pattern": "^e"}], ids=["by subnet", "by pattern"])
def test_groups_whose_interface_is_found_at_run_time_may_have_one_vhid(where: dict[str, str]) -> None:
    """They may be on different networks; where they are not, the later one waits and says so."""
    read({"vhid": 7, "addresses": ["10.0.0.1/24"]} | where, {"vhid": 7, "addresses": ["10.0.1.1/24"]} | where)


def test_groups_of_a_named_interface_may_not() -> None:
    with pytest.raises(ConfigError, match=r"group\[1\].vhid: VHID 7 on interface eth0 is taken by group 'g0'; give each group its own"):
        read({"vhid": 7, "addresses": ["10.0.0.1"], "interface": "eth0"}, {"vhid": 7, "addresses": ["10.0.0.2"], "interface": "eth0"})
    read({"vhid": 7, "addresses": ["10.0.0.1"], "interface": "eth0"}, {"vhid": 7, "addresses": ["10.0.0.2"], "interface": "eth1"})


def test_an_address_belongs_to_one_group() -> None:
    with pytest.raises(ConfigError, match=r"group\[1\].addresses\[1\]: fd77::1 belongs to group 'g0' already; remove one"):
        read({"vhid": 7, "addresses": ["fd77::1"]}, {"vhid": 8, "addresses": ["10.0.0.2", "FD77:0::1/64"]})


@pytest.mark.parametrize("mode, key, interval_s", [("Strict", "9f" * 32, 0.2), ("Compatible", "secret", 1.0)])
def test_an_interval_that_is_left_out_is_the_default_of_the_mode(mode: str, key: str, interval_s: float) -> None:
    group = {"name": "web", "vhid": 7, "addresses": ["10.0.0.1"], "authentication": {"mode": mode, "key": key}}
    assert read_document({"group": [group]}, load_key=lambda _path: b"").groups[0].advertisement_interval_s == interval_s
