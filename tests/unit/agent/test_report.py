"""From the sidecar's status to that of the CarpNode: what is told, what is not, and that nothing is told twice."""

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carp_agent.errors import BadAnswer
from carp_agent.report import Memory, Picture, build_untrusted
from carp_operator.api.node import read_carp_node
from carp_operator.api.node_schema import node_crd
from unit.fake_daemon import group_status, status_document

TIME = "2026-03-01T13:00:00Z"
Entry = dict[str, Any]


def picture(document: Entry | None, **fields: Any) -> Picture:
    return Picture(document, time=TIME, agent_version="0.1.0", **fields)


def build(document: Entry | None, previous: Entry | None = None, memory: Memory | None = None, now: float = 0.0, **fields: Any) -> Entry:
    return build_untrusted(picture(document, **fields), previous or {}, memory or Memory(), now)


def only(status: Entry) -> Entry:
    (entry,) = status["groups"]
    assert isinstance(entry, dict)
    return entry


def test_a_healthy_backup() -> None:
    status = build(status_document(group_status()), generation=4, versions={"intranet": "abc"})
    assert status == {
        "observedGeneration": 4,
        "agent": {"version": "0.1.0"},
        "sidecar": {"running": True, "version": "0.1.0", "started": "2026-03-01T11:59:00Z"},
        "interfaces": [{"name": "vmx0", "state": "Up", "addresses": ["172.27.27.3/27"]}],
        "groups": [
            {
                "name": "intranet",
                "version": "abc",
                "vhid": 1,
                "state": "Backup",
                "since": "2026-03-01T12:00:00Z",
                "reason": "started",
                "interface": "vmx0",
                "interfaceState": "Up",
                "source": "172.27.27.3",
                "advskew": 100,
                "demotion": {"total": 0, "excluded": False, "reasons": []},
                "addresses": [{"address": "172.27.27.13/27", "held": False}],
                "master": {"source": "172.27.27.2", "local": False},
                "mastersSeen": 1,
                "transitions": 1,
                "splitBrains": 0,
                "fence": {"active": "Gate"},
            }
        ],
    }


def test_what_is_wrong_is_told() -> None:
    group = group_status(
        interface=None,
        interface_state="missing",
        master=None,
        demotion={"total": 128, "excluded": True, "reasons": [{"name": "health/web", "amount": 128}, {"name": "manual", "amount": None}]},
        health_checks=[
            {"name": "web", "passing": False, "message": "HTTP status 500", "consecutive": 3},
            {"name": "db", "passing": None, "message": "not checked yet", "consecutive": 0},
            {"name": "ok", "passing": True, "message": "connected", "consecutive": 9},
        ],
        fence={"wanted": "Required", "active": "Lifetime", "reason": "the kernel refuses nftables rules"},
        warnings=["no interface has the subnet of 172.27.27.13/27"],
    )
    status = build(status_document(group), problems=["x" * 2000, "b"], handovers={"intranet": {"id": "a", "result": "Started"}})
    entry = only(status)
    assert "interface" not in entry
    assert "master" not in entry
    assert entry["interfaceState"] == "Missing"
    assert entry["demotion"]["reasons"] == [{"name": "health/web", "amount": 128}, {"name": "manual"}]
    assert entry["healthChecks"] == [
        {"name": "web", "passing": False, "message": "HTTP status 500"},
        {"name": "db"},
        {"name": "ok", "passing": True},
    ]
    assert entry["fence"] == {"active": "Lifetime", "reason": "the kernel refuses nftables rules"}
    assert entry["warnings"] == group["warnings"]
    assert entry["handover"] == {"id": "a", "result": "Started"}
    assert status["problems"] == ["x" * 1024, "b"]
    assert "observedGeneration" not in status


VOLATILE = st.fixed_dictionaries(
    {
        "since_s": st.floats(0, 1e6),
        "since": st.sampled_from(["2026-03-01T12:00:00Z", "2026-03-01T12:00:00.001Z", "2026-03-01T11:59:59.999Z"]),
        "adverts": st.fixed_dictionaries(
            {"sent": st.integers(0), "received": st.integers(0), "rejected": st.just({"bad-digest": 2, "vrrp": 9})}
        ),
        "takeover_s": st.none() | st.floats(0, 1),
        "peers": st.lists(st.fixed_dictionaries({"source": st.text(max_size=3), "seen_s_ago": st.floats(0, 9)}), max_size=2),
    }
)


@given(st.sampled_from(["INIT", "BACKUP", "MASTER", "HANDOVER"]), VOLATILE, VOLATILE)
def test_the_same_state_of_affairs_gives_the_same_report(state: str, first: Entry, second: Entry) -> None:
    memory = Memory()
    documents = [
        status_document(group_status(state=state, **volatile), loop_lateness_s=volatile["since_s"]) for volatile in (first, second)
    ]
    previous: Entry = {}
    reports = []
    for number, document in enumerate(documents):
        memory.observe_untrusted(document, {}, float(number))
        previous = build(document, previous, memory, float(number))
        reports.append(copy.deepcopy(previous))
    assert reports[0] == reports[1]


def test_since_is_new_after_a_transition_or_a_restart_of_the_sidecar() -> None:
    before = build(status_document(group_status()))
    again = build(status_document(group_status(since="2026-03-01T12:00:00.002Z")), before)
    assert only(again)["since"] == "2026-03-01T12:00:00Z"
    flapped = build(status_document(group_status(since="2026-03-01T12:07:00Z", transitions=3)), before)
    assert only(flapped)["since"] == "2026-03-01T12:07:00Z"
    restarted = build(status_document(group_status(since="2026-03-01T12:08:00Z"), started="2026-03-01T12:07:59Z"), before)
    assert only(restarted)["since"] == "2026-03-01T12:08:00Z"


def rejected(count: int) -> Entry:
    return status_document(group_status(adverts={"sent": 0, "received": 0, "rejected": {"bad-digest": count, "replay": 9 * count}}))


def test_forged_adverts_are_told_for_a_minute() -> None:
    memory = Memory()
    told = {}
    for now, count in [(0.0, 5), (10.0, 5), (20.0, 6), (79.0, 6), (81.0, 6), (90.0, 2), (100.0, 2)]:
        memory.observe_untrusted(rejected(count), {}, now)
        told[now] = "authenticationFailed" in only(build(rejected(count), memory=memory, now=now))
    assert told == {0.0: False, 10.0: False, 20.0: True, 79.0: True, 81.0: False, 90.0: True, 100.0: True}


def test_an_address_conflict_is_told_for_a_minute_and_keeps_its_time() -> None:
    memory, document = Memory(), status_document(group_status())
    told = {}
    for now, seen in [(0.0, 0.0), (30.0, 30.0), (89.0, 30.0), (91.0, 30.0)]:
        memory.observe_untrusted(document, {"intranet": ("02:00:00:00:00:09", f"t{seen:g}", seen)}, now)
        told[now] = only(build(document, memory=memory, now=now)).get("addressConflict")
    first = {"mac": "02:00:00:00:00:09", "at": "t0"}
    assert told == {0.0: first, 30.0: first, 89.0: first, 91.0: None}


def test_without_a_sidecar_nothing_is_held() -> None:
    before = build(
        status_document(group_status(state="MASTER", addresses=[{"address": "172.27.27.13/27", "held": True}])),
        versions={"intranet": "abc"},
    )
    gone = build(None, before)
    assert gone["sidecar"] == {"running": False}
    assert gone["interfaces"] == before["interfaces"]
    assert only(gone) == {
        "name": "intranet",
        "version": "abc",
        "vhid": 1,
        "state": "Init",
        "since": TIME,
        "reason": "sidecar-gone",
        "addresses": [{"address": "172.27.27.13/27", "held": False}],
    }
    later = build_untrusted(Picture(None, time="2027-01-01T00:00:00Z", agent_version="0.1.0"), gone, Memory(), 0.0)
    assert later == gone, "the time it is gone since does not change"


def test_a_group_that_ended_itself_keeps_its_reason() -> None:
    before = build(status_document(group_status(state="INIT", reason="closed")))
    entry = only(build(None, before))
    assert (entry["reason"], entry["since"]) == ("closed", "2026-03-01T12:00:00Z")


@pytest.mark.parametrize("previous", [{"groups": 7, "interfaces": 7, "sidecar": 7}, {"groups": [7, {}, {"name": 7}]}])
def test_whatever_somebody_wrote_into_the_status(previous: Entry) -> None:
    assert only(build(status_document(group_status()), previous))["state"] == "Backup"
    assert build(None, previous)["groups"] == []


@pytest.mark.parametrize(
    "broken", [{"state": "CONFUSED"}, {"demotion": None}, {"addresses": [{}]}, {"transitions": "many"}, {"interface_state": 7}]
)
def test_a_status_that_cannot_be_read(broken: Entry) -> None:
    with pytest.raises(BadAnswer, match="the status of the sidecar cannot be read"):
        build(status_document(group_status(**broken)))
    with pytest.raises(BadAnswer):
        Memory().observe_untrusted({"groups": [{}]}, {}, 0.0)


def test_the_operator_reads_what_the_agent_writes() -> None:
    status = build(status_document(group_status(state="MASTER")), generation=4, versions={"intranet": "abc"}, problems=["p"])
    node = read_carp_node({"metadata": {"name": "a", "generation": 4}, "spec": {}, "status": status})
    report = node.groups["intranet"]
    assert (node.observed_generation, node.sidecar_running, node.problems, node.interfaces[0].name) == (4, True, ("p",), "vmx0")
    assert (report.version, report.state, report.master_source, report.interface_state) == ("abc", "Master", "172.27.27.2", "Up")


def test_every_field_is_in_the_schema() -> None:
    """The API server drops what it does not know without a word."""
    schema = node_crd()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["status"]
    memory = Memory()
    memory.observe_untrusted(rejected(1), {"intranet": ("m", TIME, 0.0)}, 0.0)
    memory.observe_untrusted(rejected(2), {}, 1.0)
    group = group_status(
        health_checks=[{"name": "web", "passing": False, "message": "m", "consecutive": 3}],
        demotion={"total": 1, "excluded": False, "reasons": [{"name": "n", "amount": 1}]},
        warnings=["w"],
    )
    handovers = {"intranet": {"id": "a", "result": "Refused", "message": "m"}}
    status = build(
        status_document(group), memory=memory, now=2.0, generation=4, problems=["p"], versions={"intranet": "v"}, handovers=handovers
    )
    assert {"authenticationFailed", "addressConflict", "healthChecks", "warnings", "handover", "version"} <= only(status).keys()
    assert not list(unknown(status, schema))


def unknown(value: Any, schema: Entry, place: str = "status") -> Any:
    """Places in ``value`` that the schema does not know."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if key not in schema.get("properties", {}):
                yield f"{place}.{key}"
            else:
                yield from unknown(inner, schema["properties"][key], f"{place}.{key}")
    elif isinstance(value, list):
        for inner in value:
            yield from unknown(inner, schema["items"], f"{place}[]")
