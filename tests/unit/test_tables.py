"""Tables, durations and the sentences built on them."""

import pytest

from carp_protocol.effects import Reason
from carp_sidecar.changes import describe_change, describe_reason
from carp_sidecar.console.tables import clean, cut, format_duration, format_interval, format_table
from carp_sidecar.console.views import change_line, group_detail, paint_status, status_table
from unit.fake_daemon import group_status, status_document, transition


@pytest.mark.parametrize(
    "seconds, text",
    [
        (-1, "0s"),
        (0.9, "0s"),
        (59.9, "59s"),
        (60, "1m"),
        (192.4, "3m12s"),
        (3600, "1h"),
        (7509, "2h5m"),
        (86_400 + 59, "1d"),
        (9 * 86_400 + 4 * 3600, "9d4h"),
    ],
)
def test_duration(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


@pytest.mark.parametrize(
    "seconds, text", [(0, "0s"), (0.00025, "250us"), (0.0012, "1.2ms"), (0.2, "200ms"), (1, "1s"), (2.5, "2.5s"), (90, "1m30s")]
)
def test_interval(seconds: float, text: str) -> None:
    assert format_interval(seconds) == text


def test_columns_line_up_and_empty_cells_show() -> None:
    assert format_table(("A", "LONG"), [("wide cell", ""), ("b", 7)]) == ["A           LONG", "wide cell   -", "b           7"]


def test_a_table_without_rows_is_its_header() -> None:
    assert format_table(("A", "B"), []) == ["A   B"]


def test_paint_adds_no_width() -> None:
    plain = format_table(("STATE", "NOTE"), [("MASTER", "x"), ("INIT", "")])
    painted = format_table(("STATE", "NOTE"), [("MASTER", "x"), ("INIT", "")], paint=paint_status)
    assert "\x1b[32mMASTER\x1b[0m" in painted[1]
    stripped = [line.replace("\x1b[0m", "") for line in painted]
    for code in ("\x1b[32m", "\x1b[33m"):
        stripped = [line.replace(code, "") for line in stripped]
    assert stripped == plain


@pytest.mark.parametrize(
    "width, text", [(0, "\x1b[32m\x1b[0m"), (3, "\x1b[32mMAS\x1b[0m"), (8, "\x1b[32mMASTER\x1b[0m x"), (99, "\x1b[32mMASTER\x1b[0m x y")]
)
def test_cut_counts_what_is_seen(width: int, text: str) -> None:
    assert cut("\x1b[32mMASTER\x1b[0m x y", width) == text


def test_control_characters_never_reach_the_terminal() -> None:
    assert clean("a\x1b[2Jb\nc") == "a?[2Jb?c"
    check = {"name": "web", "passing": False, "message": "\x1b]0;owned\x07", "consecutive": 1}
    group = group_status(health_checks=[check], warnings=["bad\x1b[0m"])
    status = status_document(group)
    assert not any("\x1b" in line for line in [*status_table(status), *group_detail(status, group)])
    assert "\x1b" not in change_line({"event": "health", "group": "web", "check": "x", "passing": False, "message": "\x1b[2J"})


def test_status_of_a_backup() -> None:
    assert status_table(status_document(group_status())) == [
        "GROUP      VHID   INTERFACE   ADDRESSES         STATE    SINCE   MASTER        HEALTH   NOTE",
        "intranet   1      vmx0        172.27.27.13/27   BACKUP   3m12s   172.27.27.2   -        -",
    ]


def test_status_without_groups_says_so() -> None:
    assert status_table(status_document()) == ["no groups are configured"]


def test_notes_tell_what_a_person_should_look_at() -> None:
    group = group_status(
        state="MASTER",
        interface=None,
        interface_state="down",
        masters_seen=2,
        master=None,
        demotion={"total": 128, "excluded": False, "reasons": [{"name": "health/web", "amount": 128}]},
        health_checks=[{"name": "web", "passing": None, "message": "", "consecutive": 0}],
        warnings=["peers run another configuration"],
    )
    line = status_table(status_document(group))[1]
    for note in (
        "interface is down",
        "2 masters (split brain)",
        "demoted by 128 (health/web)",
        "peers run another configuration",
        "0/1",
    ):
        assert note in line


def test_wide_shows_more_and_every_address() -> None:
    addresses = [{"address": f"10.0.0.{number}/32", "held": True} for number in range(4)]
    status = status_document(group_status(addresses=addresses, virtual_mac=None))
    assert "10.0.0.0/32 +3" in status_table(status)[1]
    wide = status_table(status, wide=True)
    assert ",".join(str(entry["address"]) for entry in addresses) in wide[1]
    assert "TRANSITIONS" in wide[0]
    assert "physical" in wide[1]


def test_detail_names_every_fact() -> None:
    checks = [{"name": "web", "passing": True, "message": "HTTP status 200", "consecutive": 3}]
    group = group_status(health_checks=checks, takeover_s=0.0012, warnings=["look here"])
    text = "\n".join(group_detail(status_document(group), group))
    for fact in (
        "intranet (VHID 1)",
        "vmx0 (up)",
        "BACKUP for 3m12s",
        "172.27.27.2 (advskew 0, last advert 100ms ago)",
        "0 sent, 7 received, 2 rejected (bad-digest 2)",
        "last one took 1.2ms",
        "yes (3 in a row)",
        "HTTP status 200",
        "Addresses (0 of 1 held)",
        "Warning: look here",
    ):
        assert fact in text


def test_the_own_node_is_named_as_master() -> None:
    group = group_status(state="MASTER", master={"source": "172.27.27.3", "advert_age_s": 0.0, "advskew": 0, "local": True})
    assert "router-003" in status_table(status_document(group))[1]


@pytest.mark.parametrize("reason", Reason)
def test_every_reason_has_a_phrase(reason: Reason) -> None:
    assert describe_reason(reason.value) != reason.value


INTERFACES = [
    {"name": "eth0", "state": "up", "addresses": ["10.0.0.1/24", "fd77::1/64"]},
    {"name": "eth1", "state": "down", "addresses": ["10.1.0.1/24"]},
]


@pytest.mark.parametrize(
    "change, text",
    [
        (transition(), "BACKUP -> MASTER: no advert of the master within the dead time"),
        ({"event": "split-brain", "source": "10.0.0.2", "won": True}, "10.0.0.2 is master too; this member stays master"),
        ({"event": "split-brain", "source": "10.0.0.2", "won": False}, "10.0.0.2 is master too; this member steps down"),
        ({"event": "health", "check": "web", "passing": False, "message": "HTTP status 503"}, "health check web fails: HTTP status 503"),
        ({"event": "demotion", "total": 128, "excluded": False}, "demoted by 128"),
        ({"event": "demotion", "total": 0, "excluded": True}, "out of the election"),
        ({"event": "demotion", "total": 0, "excluded": False}, "not demoted"),
        ({"event": "config", "generation": 5, "problems": []}, "configuration generation 5 runs"),
        ({"event": "link", "state": "down"}, "interface is down"),
        (
            {"event": "interfaces", "interfaces": INTERFACES},
            "this host has eth0 with 10.0.0.1/24, fd77::1/64; eth1 (down) with 10.1.0.1/24",
        ),
        ({"event": "interfaces", "interfaces": []}, "this host has no interface with a subnet"),
        ({"event": "something-new"}, "something-new"),
    ],
)
def test_changes_as_sentences(change: dict[str, object], text: str) -> None:
    assert describe_change(change) == text


def test_refused_configuration_names_its_problems() -> None:
    text = describe_change({"event": "config", "generation": 4, "problems": ["group[0].vhid: is 300"]})
    assert "group[0].vhid: is 300" in text


def test_address_conflict_names_the_culprit() -> None:
    assert "02:00:00:00:00:01" in describe_change({"event": "address-conflict", "mac": "02:00:00:00:00:01"})
