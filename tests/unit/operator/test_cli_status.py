"""``kubectl carp status``: what a person sees in every state of a cluster, what a program gets, and what --watch tells."""

import io
import json
import os
import pty
import re
import select
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
import yaml

from carp_operator.api.reasons import Reason
from carp_operator.cli.screen import Screen, rows, sentences
from carp_operator.cli.verdicts import Level
from carp_operator.cli.views import LEVEL_STYLES
from unit.operator.fake_cluster import NODES, FakeApi, FakeClock, ago, carp_node, group, lease, member, members, node, report, run

ROOT = Path(__file__).resolve().parents[3]


def healthy(*more: dict[str, object]) -> FakeApi:
    bodies = [group("intranet", *members()), *map(node, NODES), *(carp_node(name) for name in NODES), lease(), *more]
    return FakeApi(*bodies)


def lines(api: FakeApi, *argv: str) -> list[str]:
    code, out, err = run(api, "status", *argv)
    assert (code, err) == (0, "")
    return out.splitlines()


def cells(line: str) -> list[str]:
    return re.split(r"\s{2,}", line)


def test_a_healthy_cluster_is_three_lines() -> None:
    assert lines(healthy()) == [
        "1 group, all is well",
        "",
        "GROUP      VHID   ADDRESSES     MASTER   SINCE   NEXT     MEMBERS   NOTE",
        "intranet   1      10.0.0.5/24   node-a   1h      node-b   3/3       -",
    ]


def test_the_most_urgent_group_comes_first_and_is_explained() -> None:
    down = group(
        "zz", member("node-a", "Init", ready=False), conditions={"Ready": ("False", "NoMaster", "no member has it: node-a: eth1 is down")}
    )
    shaky = group("mm", *members(), conditions={"Degraded": ("True", "NoBackup", "no other node could take over")})
    shown = lines(healthy(down, shaky))
    assert shown[0] == "3 groups, 2 need attention"
    assert [line.split()[0] for line in shown[3:6]] == ["zz", "mm", "intranet"]
    assert cells(shown[3]) == ["zz", "1", "10.0.0.5/24", "-", "1h", "-", "0/1", "NoMaster"]
    assert shown[7:9] == ["zz   no member has it: node-a: eth1 is down", "mm   no other node could take over"]
    assert shown[-1] == "`kubectl carp describe zz` says more"


def test_wide_shows_every_address_and_more_columns() -> None:
    api = FakeApi(group("intranet", *members(), addresses=("10.0.0.5/24", "fd00::5/64", "10.0.0.6/24")), *map(node, NODES))
    assert "10.0.0.5/24 +2" in lines(api)[3]
    header, row = lines(api, "-o", "wide")[2:4]
    assert cells(header)[7:] == ["INTERFACE", "MODE", "INTERVAL", "TRANSITIONS", "NOTE"]
    assert cells(row)[2] == "10.0.0.5/24,fd00::5/64,10.0.0.6/24"
    assert cells(row)[7:] == ["eth0", "Strict", "1s", "3", "-"]


def test_only_named_groups_are_shown() -> None:
    api = healthy(group("web", *members()))
    assert [line.split()[0] for line in lines(api, "web")[3:]] == ["web"]
    code, out, err = run(api, "status", "wob")
    assert (code, out, err) == (1, "", "kubectl carp: there is no CarpGroup wob; did you mean web?\n")


def test_no_groups() -> None:
    assert lines(FakeApi())[0] == "no CarpGroups"


@pytest.mark.parametrize(
    "conditions, note, level",
    [
        ({"Accepted": ("False", "VhidConflict", "taken")}, "VhidConflict", Level.LOOK),
        ({"Programmed": ("False", "Pending", "waiting for node-c")}, "Pending", Level.NOTE),
        ({"Programmed": ("False", "Refused", "node-c: no")}, "Refused", Level.LOOK),
        ({"Degraded": ("True", str(Reason.KEY_ROTATION), "a key is being replaced")}, "KeyRotation", Level.NOTE),
        ({"SplitBrain": ("True", "SeveralMasters", "two"), "Ready": ("False", "SeveralMasters", "two")}, "SplitBrain", Level.DOWN),
        ({"Ready": ("False", "AddressNotHeld", "not held")}, "AddressNotHeld", Level.DOWN),
        ({"Ready": ("Unknown", "NoMaster", "who knows")}, "NoMaster", Level.DOWN),
    ],
)
def test_conditions_become_notes(conditions: dict[str, tuple[str, str, str]], note: str, level: Level) -> None:
    api = FakeApi(group("intranet", *members(), conditions=conditions), *map(node, NODES))
    shown = lines(api)
    assert cells(shown[3])[-1] == note
    assert (shown[0] == "1 group, all is well") is (level is Level.NOTE)
    document = json.loads(run(api, "status", "-o", "json")[1])
    assert document["groups"][0]["findings"][0]["level"] == {Level.NOTE: "Note", Level.LOOK: "Attention", Level.DOWN: "Down"}[level]
    assert run(api, "status", "--check")[0] == (0 if level is Level.NOTE else 1)


def test_a_refused_new_group_is_down_and_says_it_once() -> None:
    nothing = {"Accepted": ("False", "AddressConflict", "taken"), "Programmed": ("False", "NotAccepted", "nothing runs")}
    api = FakeApi(group("intranet", conditions=nothing), *map(node, NODES))
    shown = lines(api)
    assert cells(shown[3])[-1] == "AddressConflict"
    assert shown[5] == "intranet   taken"


@pytest.mark.parametrize("status, word", [({}, "the operator has not looked at it yet"), ({"observedGeneration": 0}, "newest version")])
def test_a_group_that_the_operator_has_not_seen(status: dict[str, object], word: str) -> None:
    body = group("intranet", *members())
    body["status"] = body["status"] | status if status else {}
    shown = "\n".join(lines(FakeApi(body)))
    assert "NotSeen" in shown
    assert word in shown


def test_a_silent_operator_is_said_once_and_not_when_its_lease_is_fresh() -> None:
    api = healthy(lease(silent_s=240))
    shown = lines(api)
    assert shown[0] == "1 group, the operator is silent"
    assert "operator   the operator has been silent for 4m: what is shown may be old. Failover does not need it" in shown
    assert run(api, "status", "--check")[0] == 1
    assert run(healthy(), "status", "--check")[0] == 0


def test_nodes_believe_themselves_when_the_operator_is_late() -> None:
    api = healthy(
        carp_node("node-a", report("intranet", since=100)),
        carp_node("node-b", report("intranet", "Master", since=100)),
    )
    shown = lines(api)
    assert cells(shown[3])[3:6] == ["node-b", "1m40s", "-"]
    assert (
        "node-b reports that it has the addresses, for 1m40s, and the status still says node-a: the operator does not keep up"
        in "\n".join(shown)
    )
    api.put(carp_node("node-b", report("intranet", "Master", since=2)))
    assert lines(api)[0] == "1 group, all is well"


def test_nodes_in_trouble_and_nodes_that_are_set_aside() -> None:
    api = healthy(
        node("node-a", ready=False),
        node("node-b", cordoned=True, maintenance=True),
        carp_node("node-c", running=False, problems=("Secret kubecarp-key-intranet is missing",)),
        node("node-d"),
        node("node-e"),
        carp_node("node-e", reported=False, entries=({"name": "intranet", "authentication": {}},)),
    )
    text = "\n".join(lines(api))
    assert "1 group, 3 nodes in trouble" in text
    assert re.search(r"node-a +NotReady +intranet +NotReady", text)
    assert re.search(r"node-b +Ready,SchedulingDisabled +- +Maintenance,Cordoned", text)
    assert re.search(r"node-c +Ready,NoSidecar +- +SidecarNotRunning,Problem", text)
    assert "node-c   the sidecar does not run; look at the node's pod\n         Secret kubecarp-key-intranet is missing" in text
    assert "node-e   no agent has reported, but 1 group should run" in text
    assert text.endswith("no agent has ever reported from node-d and node-e: no group runs there")


def test_who_may_not_list_nodes_sees_the_groups() -> None:
    api = healthy()
    api.forbidden = {"/api/v1/nodes", "/apis/coordination.k8s.io/v1/namespaces/kubecarp-system/leases/kubecarp-operator"}
    assert lines(api)[-1] == "you may not list Nodes: their state is not shown"


def test_who_may_nothing_is_told_so() -> None:
    api = healthy()
    api.forbidden = {"/apis/kubecarp.io/v1alpha1/carpgroups"}
    assert run(api, "status") == (1, "", "kubectl carp: /apis/kubecarp.io/v1alpha1/carpgroups is forbidden\n")


def test_a_cluster_without_kubecarp() -> None:
    api = healthy()
    api.installed = False
    assert (
        run(api, "status")[2] == "kubectl carp: https://fake:6443 knows no CarpGroups: kubecarp is not installed there; install its chart\n"
    )


def test_control_characters_of_a_stranger_reach_no_terminal() -> None:
    evil = group("intranet", *members(), conditions={"Degraded": ("True", "HealthCheckFailed", "it said \x1b[2J\x07 and\nmore")})
    assert "it said ?[2J? and?more" in "\n".join(lines(FakeApi(evil)))


def test_documents_say_the_same_in_both_languages() -> None:
    api = healthy(group("web", *members(), conditions={"Degraded": ("True", "NoBackup", "nobody")}))
    from_json = json.loads(run(api, "status", "-o", "json")[1])
    assert yaml.safe_load(run(api, "status", "-o", "yaml")[1]) == from_json
    assert from_json["healthy"] is False
    web = from_json["groups"][0]
    assert (web["name"], web["healthy"], web["next"]) == ("web", False, "node-b")
    assert web["master"] == {"node": "node-a", "since": ago(3600), "interface": "eth0"}
    assert web["findings"] == [{"level": "Attention", "word": "NoBackup", "sentence": "nobody"}]
    assert [one["node"] for one in web["members"]] == list(NODES)
    assert from_json["nodes"][0] == {"name": "node-a", "ready": True, "cordoned": False, "maintenance": False, "findings": []}


@pytest.mark.parametrize("argv", [("--watch", "--check"), ("--watch", "-o", "yaml"), ("-o", "xml"), ("-n", "default")])
def test_wrong_usage_is_2(argv: tuple[str, ...]) -> None:
    code, out, err = run(FakeApi(), "status", *argv)
    assert (code, out) == (2, "")
    assert "Error: " in err


class Interrupt(FakeClock):
    """Interrupts the command after some seconds, as Ctrl-C does."""

    def __init__(self, after: float) -> None:
        super().__init__()

        def stop() -> None:
            raise KeyboardInterrupt

        self.after(after, stop)


def test_watching_tells_every_change_once() -> None:
    api, clock = healthy(), Interrupt(50)
    clock.after(5, lambda: api.put(group("intranet", *members("node-b"))))
    clock.after(10, lambda: api.put(group("web", *members(), addresses=("10.0.0.9",))))
    clock.after(
        15, lambda: api.put(group("web", *members(), addresses=("10.0.0.9",), conditions={"Degraded": ("True", "NoBackup", "nobody")}))
    )
    clock.after(20, lambda: api.put(group("web", *members(), addresses=("10.0.0.9",))))
    clock.after(25, lambda: setattr(api, "down", "Connection refused"))
    clock.after(30, lambda: setattr(api, "down", ""))
    clock.after(35, lambda: api.objects.pop("/apis/kubecarp.io/v1alpha1/carpgroups/web"))
    clock.after(40, lambda: api.put(node("node-c", ready=False)))
    code, out, err = run(api, "status", "--watch", clock=clock)
    assert (code, err) == (130, "\n"), "the line of ^C ends"
    told = [line.partition(" ")[2] for line in out.splitlines()]
    assert re.sub(r"of \d\d:\d\d:\d\d", "of TIME", "\n".join(told)) == textwrap.dedent("""\
        intranet: node-a has 10.0.0.5/24
        intranet: node-b has 10.0.0.5/24, after node-a
        web: new; node-a has 10.0.0.9
        web: NoBackup: nobody
        web: no more NoBackup
        the API server https://fake:6443 cannot be reached: Connection refused; what is shown is of TIME
        the API server answers again
        web: gone
        node node-c: NotReady: Kubernetes says that the node is not ready""")


def test_watching_in_json_is_a_document_for_each_change() -> None:
    api, clock = healthy(), Interrupt(10)
    clock.after(5, lambda: api.put(group("intranet", *members("node-b"))))
    code, out, _ = run(api, "status", "--watch", "-o", "json", clock=clock)
    documents = [json.loads(line) for line in out.splitlines()]
    assert code == 130
    assert [document["groups"][0]["master"]["node"] for document in documents] == ["node-a", "node-b"]


# ---- a terminal -----------------------------------------------------------------------------------------------

PROGRAM = """
import sys
sys.path[:0] = ["tests", "operator", "sidecar"]
from unit.operator.test_cli_status import healthy
from unit.operator.fake_cluster import FakeClock, group, members
from carp_operator.cli.cluster import Cluster
from carp_operator.cli.main import main
from carp_operator.cli.session import Session
api, clock = healthy(), FakeClock()
sentence = "nobody has it, and this is a long sentence that wraps at words"
api.put(group("web", *members(), conditions={"Ready": ("False", "NoMaster", sentence)}))
clock.after(3, lambda: api.put(group("intranet", *members("node-b"))))
def stop():
    raise KeyboardInterrupt
clock.after(6, stop)
sys.exit(main(sys.argv[1:], Session(clock=clock, connected=Cluster(api, "kubecarp-system"))))
"""


def on_terminal(*argv: str, **environment: str) -> tuple[int, str]:
    """The command on a terminal of 60 columns: exit code, and everything that was drawn."""
    lead, follow = pty.openpty()
    inherited = {key: value for key, value in os.environ.items() if key not in {"NO_COLOR", "FORCE_COLOR"}}
    surroundings = inherited | {"TERM": "xterm", "COLUMNS": "60", "LINES": "30"} | environment
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *argv], cwd=ROOT, stdin=follow, stdout=follow, stderr=follow, env=surroundings
    )
    os.close(follow)
    drawn, deadline = b"", time.monotonic() + 30
    while time.monotonic() < deadline:
        readable, _, _ = select.select([lead], [], [], 1)
        try:
            data = os.read(lead, 65536) if readable else b""
        except OSError:
            break
        drawn += data
    os.close(lead)
    return process.wait(10), drawn.decode().replace("\r\n", "\n")


def test_a_terminal_gets_colour_and_wrapped_sentences_but_whole_tables() -> None:
    code, drawn = on_terminal("status")
    assert code == 0
    assert "\x1b[1;31m" in drawn
    plain = re.sub(r"\x1b\[[0-9;]*m", "", drawn)
    assert "\nintranet   1      10.0.0.5/24   node-a   1h      node-b   3/3       -\n" in plain
    assert "\nweb   nobody has it, and this is a long sentence that wraps\n      at words\n" in plain


def test_no_colour_when_it_is_not_wanted() -> None:
    assert "\x1b[1;31m" not in on_terminal("status", NO_COLOR="1")[1]
    assert "\x1b" not in on_terminal("status", TERM="dumb")[1]


def test_a_terminal_gets_a_picture_that_is_drawn_anew() -> None:
    code, drawn = on_terminal("status", "--watch")
    assert code == 130
    assert "\x1b[1A" in drawn, "it goes back up"
    assert "intranet: node-b has 10.0.0.5/24, after node-a" in drawn
    assert "Traceback" not in drawn


def test_lines_of_a_file_are_never_cut_nor_padded() -> None:
    file = io.StringIO()
    Screen(file).show(rows(("A", "B"), [("x" * 300, ""), ("y", "z")]), sentences([("label", "word " * 100, LEVEL_STYLES[Level.DOWN])]))
    shown = file.getvalue().splitlines()
    assert shown[1] == "x" * 300 + "   -"
    assert shown[2] == "y" + " " * 302 + "z"
    assert shown[3] == "label   " + ("word " * 100).rstrip()
