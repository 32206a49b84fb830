"""Daily business: health checks, hooks, reload, handover and demotion by command, metrics, bad input."""

import json
import stat
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

import pytest

from lab.namespace import wait_until
from lab.network import Host, Lab
from lab.prober import Prober
from lab.sidecar import CALM, ENVIRONMENT, PROGRAM, VIP4, Sidecar, group, start_cluster, stays, wait_master, wait_single_master

pytestmark = pytest.mark.needs("netns")

PREEMPT = {"enabled": True}


def file_check(path: Path, **fields: Any) -> dict[str, Any]:
    """A health check that passes while a file exists."""
    return {"name": "web", "exec": {"command": ["/usr/bin/test", "-e", str(path)]}, "period": "100ms", "failure_threshold": 2} | fields


@pytest.mark.parametrize("demotion", [128, "Exclude"])
def test_a_health_check_moves_the_address(lab: Lab, demotion: int | str) -> None:
    web = lab.directory / "web-is-up"
    first = Sidecar(lab, lab["a"], [group(preemption=PREEMPT, health_checks=[file_check(web, demotion=demotion)])]).start()
    second = Sidecar(lab, lab["b"], [group(advskew=50, preemption=PREEMPT)]).start()
    wait_master(second, first)
    shown = first.group()["demotion"]
    assert (shown["total"], shown["excluded"]) == ((128, False) if demotion == 128 else (0, True)), "it starts demoted"
    web.touch()
    wait_master(first, second)
    assert first.group()["health_checks"][0]["passing"] is True
    with Prober(lab.client, VIP4) as prober:
        prober.wait_answering()
        web.unlink()
        second.wait_state("MASTER")
        prober.wait_answering()
        assert prober.stop().longest_ms < 100
    wait_master(second, first)


def test_an_excluded_member_never_becomes_master(lab: Lab) -> None:
    member = Sidecar(lab, lab["a"], [group(health_checks=[file_check(lab.directory / "never", demotion="Exclude")])]).start()
    member.wait_state("BACKUP")
    stays([member], ["BACKUP"], 1.5)


def test_the_hook_runs_on_transitions(lab: Lab) -> None:
    told, script = lab.directory / "told", lab.directory / "hook"
    script.write_text(f'#!/bin/sh\necho "$@ $KUBECARP_FROM" >> {told}\n')
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    first, second = start_cluster(lab, hook=[str(script), "extra"])
    first.stop()
    second.wait_state("MASTER")
    expected = ["extra web 1 eth0 BACKUP MASTER master-bowed-out BACKUP"]

    def lines() -> list[str]:
        return [line for line in told.read_text().splitlines() if "BACKUP MASTER master-bowed-out" in line] if told.exists() else []

    wait_until(lambda: lines() == expected, 5, "the hook was told")


def ten_groups(advskew: int, changed: int | None = None) -> list[dict[str, Any]]:
    """Ten groups; the changed one has another interval and one more address."""
    found = []
    for number in range(1, 11):
        fields: dict[str, Any] = {"addresses": [f"10.77.0.{100 + number}"], "advskew": advskew} | CALM
        if number == changed:
            fields |= {"advertisement_interval": "700ms", "addresses": [f"10.77.0.{100 + number}", "10.77.0.150"]}
        found.append(group(f"g{number}", number, **fields))
    return found


def test_reload_touches_only_what_changed(lab: Lab) -> None:
    first, second = (Sidecar(lab, lab[name], ten_groups(skew)).start() for name, skew in (("a", 0), ("b", 50)))
    for number in range(1, 11):
        wait_single_master([first, second], name=f"g{number}")
    before = {one["name"]: one["transitions"] for one in first.status()["groups"]}
    masters = [one["name"] for one in first.status()["groups"] if one["state"] == "MASTER"]
    with Prober(lab.client, "10.77.0.101") as changed, Prober(lab.client, "10.77.0.102") as untouched:
        for prober in (changed, untouched):
            prober.wait_answering()
        for member, skew in ((first, 0), (second, 50)):
            member.configure(ten_groups(skew, changed=1))
            done = member.cli("reload")
            assert done.returncode == 0, done.stderr
        master = wait_single_master([first, second], name="g1")
        wait_until(lambda: "10.77.0.150" in master.host.held_addresses(), 5, "the new address is there")
        for prober in (changed, untouched):
            prober.wait_answering()
        assert (changed.stop().lost, untouched.stop().lost) == (0, 0)
    after = {one["name"]: one["transitions"] for one in first.status()["groups"]}
    assert after == before
    assert [one["name"] for one in first.status()["groups"] if one["state"] == "MASTER"] == masters


def test_reload_adds_and_removes_groups(lab: Lab) -> None:
    member = Sidecar(lab, lab["a"], ten_groups(0)[:2]).start()
    for name in ("g1", "g2"):
        member.wait_state("MASTER", name=name)
    member.configure(ten_groups(0)[1:3])
    assert member.cli("reload").returncode == 0
    member.wait_state("MASTER", name="g3")
    assert [one["name"] for one in member.status()["groups"]] == ["g2", "g3"]
    wait_until(lambda: sorted(lab["a"].held_addresses()) == ["10.77.0.102", "10.77.0.103"], 2, "the addresses follow")
    assert member.group("g2")["transitions_by_reason"].keys() <= {"started", "nobody-there"}


def test_a_bad_configuration_keeps_the_old_one(lab: Lab) -> None:
    member = Sidecar(lab, lab["a"], [group()]).start()
    member.wait_state("MASTER")
    member.configure([group(vhid=300, colour="red")])
    done = member.cli("reload")
    assert done.returncode == 2
    assert "group[0].vhid" in done.stdout + done.stderr
    assert "colour" in done.stdout + done.stderr
    status = member.status()
    assert status["config"]["problems"]
    assert status["groups"][0]["state"] == "MASTER"
    member.configure([group()])
    assert member.cli("reload").returncode == 0
    assert member.status()["config"]["problems"] == []


@pytest.mark.timing
def test_handover_by_command(lab: Lab) -> None:
    first, second = start_cluster(lab)
    with Prober(lab.client, VIP4) as prober:
        prober.wait_answering()
        done = first.cli("handover", "web")
        assert done.returncode == 0, done.stderr
        wait_master(second, first)
        prober.wait_answering()
        result = prober.stop()
    assert result.lost <= 1, result.outages
    refused = first.cli("handover", "web")
    assert refused.returncode == 1, "a backup has nothing to hand over"
    assert refused.stderr.strip()


def test_demote_and_undemote_by_command(lab: Lab) -> None:
    first, second = start_cluster(lab, preemption=PREEMPT)
    assert first.cli("demote", "web").returncode == 0
    wait_master(second, first)
    assert first.group()["demotion"]["total"] == 128
    assert first.cli("undemote", "web").returncode == 0
    wait_master(first, second)
    assert first.cli("demote", "web", "--exclude").returncode == 0
    wait_master(second, first)
    assert first.group()["demotion"]["excluded"] is True


def test_watch_tells_every_change(lab: Lab) -> None:
    first, second = start_cluster(lab)
    argv = [*PROGRAM, "watch", "--socket", str(second.socket_path), "-o", "json"]
    watching = second.host.namespace.start(argv, lab.directory / "watch-errors", ENVIRONMENT, pipe=True)
    assert watching.stdout is not None
    with watching.stdout as lines:
        assert json.loads(lines.readline())["groups"][0]["state"] == "BACKUP", "it begins with the status"
        first.request("handover", group="web")
        event = next(one for one in map(json.loads, lines) if one["event"] == "transition")
    expected = {"group": "web", "vhid": 1, "interface": "eth0", "from": "BACKUP", "to": "MASTER", "reason": "master-bowed-out"}
    assert expected.items() <= event.items()


def test_a_full_disk_is_survived_and_said(lab: Lab) -> None:
    member = Sidecar(lab, lab["a"], [group()])
    full = f'mkdir -p {member.state_dir} && mount -t tmpfs -o size=4k none {member.state_dir} && yes > {member.state_dir}/fill; exec "$@"'
    member.start(under=["unshare", "--mount", "sh", "-c", full, "sh"]).wait_state("MASTER")
    assert "No space left on device" in member.log()
    assert str(member.state_dir) in member.log()


def test_status_for_people_and_programs(lab: Lab) -> None:
    first, _ = start_cluster(lab)
    table = first.cli("status")
    assert table.returncode == 0
    assert "MASTER" in table.stdout
    assert "web" in table.stdout
    document = json.loads(first.cli("status", "-o", "json").stdout)
    assert document["groups"][0]["state"] == "MASTER"
    nobody = Sidecar(lab, lab["c"], [group()]).cli("status")
    assert nobody.returncode == 1
    assert "control.sock" in nobody.stderr


def fetch(host: Host, path: str) -> str:
    """An HTTP page as seen on the host itself; empty while nobody listens."""

    def get() -> str:
        try:
            with urlopen(f"http://127.0.0.1:9120{path}", timeout=5) as answer:
                text: str = answer.read().decode()
        except URLError as error:
            if isinstance(error.reason, ConnectionRefusedError):
                return ""
            raise
        return text

    return host.namespace.call(get)


def test_metrics_and_health(lab: Lab) -> None:
    first, second = start_cluster(lab)
    page = wait_until(lambda: fetch(first.host, "/metrics"), 10, "the metrics are served")
    for line in (
        'carp_state{group="web",state="MASTER"} 1.0',
        f'carp_address_held{{address="{VIP4}",group="web"}} 1.0',
        'carp_split_brains_total{group="web"} 0.0',
        'carp_address_conflicts_total{group="web"} 0.0',
        'carp_masters_seen{group="web"} 1.0',
    ):
        assert line in page
    assert f'carp_address_held{{address="{VIP4}",group="web"}} 0.0' in wait_until(lambda: fetch(second.host, "/metrics"), 10, "here too")
    assert fetch(first.host, "/healthz")
    assert fetch(first.host, "/readyz")


BAD: dict[str, tuple[dict[str, Any], list[str]]] = {
    "unknown key": ({"colour": "red"}, ["group[0].colour"]),
    "bad address": ({"addresses": ["10.77.0.300"]}, ["group[0].addresses[0]", "10.77.0.300"]),
    "no key file": (
        {"authentication": {"mode": "Strict", "key_file": "/nowhere/key"}},
        ["group[0].authentication.key_file", "/nowhere/key"],
    ),
    "two at once": ({"vhid": 0, "advskew": 999}, ["group[0].vhid", "group[0].advskew"]),
}


@pytest.mark.parametrize("what", BAD)
def test_a_configuration_that_cannot_run(lab: Lab, what: str) -> None:
    fields, expected = BAD[what]
    member = Sidecar(lab, lab["a"], [group(**fields)])
    member.start(wait=False)
    assert member.reap() == 2
    checked = member.cli("check", str(member.config_path))
    assert checked.returncode == 2
    for text in (member.log(), checked.stdout + checked.stderr):
        assert all(word in text for word in expected), text
        assert "Traceback" not in text


def test_a_key_that_others_can_read_is_refused(lab: Lab) -> None:
    member = Sidecar(lab, lab["a"], [group()])
    member.key_file.chmod(0o644)
    member.start(wait=False)
    assert member.reap() == 2
    assert str(member.key_file) in member.log()


def test_two_groups_with_one_vhid_are_refused(lab: Lab) -> None:
    member = Sidecar(lab, lab["a"], [group("one"), group("two", addresses=["10.77.0.101"])])
    member.start(wait=False)
    assert member.reap() == 2
    assert "group[1].vhid" in member.log()


def test_a_corrupt_state_file_is_survived(lab: Lab) -> None:
    member = Sidecar(lab, lab["a"], [group()]).start()
    member.wait_state("MASTER")
    member.stop()
    files = [path for path in member.state_dir.rglob("*") if path.is_file()]
    assert files, "nothing is stored, nothing shown"
    for path in files:
        path.write_bytes(b"\0garbage{")
    member.start().wait_state("MASTER")


def test_two_groups_that_meet_on_one_interface_do_not_share_a_vhid(lab: Lab) -> None:
    by_subnet = group("by-subnet", 1, addresses=["10.77.0.101/24"])
    del by_subnet["interface"]
    member = Sidecar(lab, lab["a"], [group("named", 1), by_subnet]).start()
    member.wait_state("MASTER", name="named")
    waiting = member.wait_for(lambda one: one["warnings"], "says why it waits", name="by-subnet")
    assert waiting["state"] == "INIT"
    assert "VHID 1 is taken by another group on eth0" in waiting["warnings"][0]
    member.configure([by_subnet])
    assert member.cli("reload").returncode == 0
    member.wait_state("MASTER", name="by-subnet")


def test_a_stop_in_the_middle_of_the_start_leaves_nothing(lab: Lab) -> None:
    member = Sidecar(lab, lab["a"], [group(f"g{number}", number, addresses=[f"10.77.1.{number}"]) for number in range(1, 101)]).start()
    assert member.stop() == 0
    assert [link["ifname"] for link in lab["a"].namespace.ip_json("link") if link["ifname"].startswith("carp")] == []
