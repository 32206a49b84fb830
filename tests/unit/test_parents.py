"""The ARP settings of an interface below virtual MACs: who sets them, who puts them back, and what is remembered. Without any kernel."""

import pytest

from carp_sidecar.kernel import rtnl
from carp_sidecar.kernel.links import Link, Links
from carp_sidecar.kernel.marks import ArpSettings, Mark
from carp_sidecar.kernel.parents import ParentSettings
from carp_sidecar.kernel.rtnl import Sysctl


def parent(ignore: int = 0, announce: int = 1) -> Link:
    return Link(index=2, name="eth0", mac="02:00:00:00:00:01", up=True, running=True, arp_ignore=ignore, arp_announce=announce)


def macvlan(alias: str, index: int = 5) -> Link:
    mac = f"00:00:5e:00:01:{index:02x}"
    return Link(index=index, name=f"carp{index}-2", mac=mac, up=True, running=True, kind="macvlan", alias=alias, parent=2)


def snapshot(*links: Link) -> Links:
    found = Links()
    found.replace(links, [])
    return found


def request(ignore: int, announce: int) -> bytes:
    return rtnl.encode_device_sysctls(2, {Sysctl.ARP_IGNORE: ignore, Sysctl.ARP_ANNOUNCE: announce})


NEEDED = request(1, 2)
OF_ANOTHER = macvlan(Mark("/other", "web", ArpSettings(0, 1)).alias)


def test_groups_share_them_and_the_last_puts_them_back() -> None:
    settings = ParentSettings(snapshot(parent()))
    assert settings.claim(parent(), "one") == (NEEDED,)
    assert settings.claim(parent(1, 2), "two") == ()
    assert settings.before(parent(1, 2)) == (0, 1)
    settings.yield_back(2, "one")
    assert settings.put_back() == ()
    settings.yield_back(2, "two")
    assert settings.put_back() == (request(0, 1),)
    assert settings.put_back() == ()


def test_while_another_sidecar_has_a_device_there_they_stay() -> None:
    links = snapshot(parent(), OF_ANOTHER)
    settings = ParentSettings(links)
    settings.claim(parent(), "one")
    settings.yield_back(2, "one")
    assert settings.put_back() == ()
    links.drop_link(OF_ANOTHER.index)
    assert settings.put_back() == (), "who removed the last device has done it"


def test_what_another_sidecar_set_is_not_taken_for_the_hosts() -> None:
    links = snapshot(parent(1, 2), OF_ANOTHER)
    settings = ParentSettings(links)
    settings.claim(parent(1, 2), "one")
    links.drop_link(OF_ANOTHER.index)
    settings.yield_back(2, "one")
    assert settings.put_back() == (request(0, 1),)


def test_one_that_came_between_removal_and_putting_back_is_told_what_was_before() -> None:
    links = snapshot(parent(1, 2), macvlan(Mark("/other", "web", ArpSettings(1, 2)).alias))
    leaving, coming = ParentSettings(links), ParentSettings(snapshot(parent(1, 2)))
    leaving.remember({2: ArpSettings(0, 1)})
    coming.claim(parent(1, 2), "web")
    assert leaving.put_back() == (request(0, 1),)
    assert coming.changed(2, parent(0, 1)) == (NEEDED,)
    coming.yield_back(2, "web")
    assert coming.put_back() == (request(0, 1),)


@pytest.mark.parametrize("written, before", [((0, 0), (0, 0)), ((1, 0), (0, 0)), ((2, 2), (2, 1))])
def test_what_somebody_writes_meanwhile_is_for_afterwards(written: tuple[int, int], before: tuple[int, int]) -> None:
    settings = ParentSettings(snapshot(parent()))
    assert settings.changed(2, parent()) == (), "nobody needs it"
    settings.claim(parent(), "one")
    assert settings.changed(2, parent(1, 2)) == ()
    assert settings.changed(2, parent(*written)) == (NEEDED,)
    settings.yield_back(2, "one")
    assert settings.put_back() == (request(*before),)


def test_what_a_dead_predecessor_changed_is_put_back_unless_it_is_needed_again() -> None:
    settings = ParentSettings(snapshot(parent(1, 2)))
    settings.remember({2: ArpSettings(0, 1)})
    assert settings.put_back() == (request(0, 1),)
    settings.remember({2: ArpSettings(0, 1)})
    settings.claim(parent(1, 2), "one")
    assert settings.put_back() == ()
    settings.yield_back(2, "one")
    assert settings.put_back() == (request(0, 1),)


def test_an_interface_that_went_is_forgotten() -> None:
    settings = ParentSettings(snapshot(parent()))
    settings.claim(parent(), "one")
    assert settings.changed(2, None) == ()
    assert settings.put_back() == ()
    assert settings.claim(parent(), "one") == (NEEDED,)
