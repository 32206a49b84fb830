"""The whole agent in one process, between an API server and a sidecar that are both made up but speak for real."""

import json
import stat
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from carp_agent.agent import Agent, Options
from carp_agent.document import Settings
from carp_agent.kubeapi import Server
from carp_agent.logs import Log
from carp_agent.times import write_time
from unit.agent.fake_api import NODE, SECRETS, TOKEN, FakeApi, group, key_ring
from unit.agent.fake_sidecar import FakeSidecar
from unit.agent.tls_server import DEADLINE_S, wait_for

KEY = "11" * 32
NOW = 1_800_000_000.0


class World:
    """API server, agent, sidecar."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.api = FakeApi()
        self.sidecar = FakeSidecar(folder)
        self.log_path = folder / "log"
        self.log_file = self.log_path.open("a")
        (folder / "token").write_text(TOKEN)
        self.agent: Agent
        self._thread: threading.Thread | None = None
        self.code: int | None = None

    def start_agent(self, gone_after_s: float = 30.0) -> None:
        server = Server(self.api.server.url, token_file=str(self.folder / "token"), ca_file=str(self.api.server.ca))
        options = Options(
            server,
            Settings(NODE, metrics_address="127.0.0.1:9120", probe_port=9112),
            namespace="kubecarp-system",
            config=str(self.sidecar.config),
            control_socket=str(self.sidecar.socket_path),
            gone_after_s=gone_after_s,
        )
        self.agent = Agent(options, Log(fd=self.log_file.fileno()))
        self.code = None
        self._thread = threading.Thread(target=self._run, args=(self.agent,), daemon=True)
        self._thread.start()

    def _run(self, agent: Agent) -> None:
        self.code = agent.run()

    def join(self) -> int | None:
        """Wait for the end of the agent; its exit code."""
        assert self._thread is not None
        self._thread.join(DEADLINE_S)
        return self.code

    @property
    def document(self) -> dict[str, Any]:
        """The file."""
        found: dict[str, Any] = json.loads(self.sidecar.config.read_bytes())
        return found

    @property
    def reloads(self) -> int:
        return self.sidecar.daemon.calls.count(("reload",))

    def wait_running(self, generation: int) -> dict[str, Any]:
        return self.api.wait_report(lambda report: report.get("observedGeneration") == generation, f"generation {generation} runs")

    def log(self) -> str:
        return self.log_path.read_text()


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    monkeypatch.setattr("carp_agent.agent._STOP_S", 0.3)
    made = World(tmp_path)
    others = set(threading.enumerate())
    with made.api, made.sidecar:
        made.sidecar.start()
        yield made
        if made.code is None and made._thread:
            made.agent._inbox.put("crashed")
            made.join()
    wait_for(lambda: set(threading.enumerate()) <= others, "every thread ends")
    made.log_file.close()
    assert "internal error" not in made.log()
    assert KEY not in made.log()
    assert TOKEN not in made.log()


def entry(report: dict[str, Any], name: str = "intranet") -> dict[str, Any]:
    """One group of a report."""
    return next((one for one in report["groups"] if one["name"] == name), {})


def test_from_the_object_to_the_sidecar_and_back(world: World) -> None:
    world.api.set_node(group())
    world.start_agent()
    report = world.wait_running(1)
    assert stat.S_IMODE(world.sidecar.config.stat().st_mode) == 0o640
    assert world.document["group"][0]["authentication"] == {"mode": "Strict", "key": KEY}
    assert (entry(report)["state"], entry(report)["version"], report["sidecar"]["running"]) == ("Backup", "v1", True)
    assert "problems" not in report
    world.sidecar.become(state="MASTER", since="2026-03-01T12:05:00Z", reason="nobody-there")
    report = world.api.wait_report(lambda one: entry(one).get("state") == "Master")
    assert entry(report)["since"] == "2026-03-01T12:05:00Z"
    assert world.reloads == 1


def test_a_change_is_followed_without_asking_for_known_keys(world: World) -> None:
    world.api.set_node(group())
    world.start_agent()
    world.wait_running(1)
    world.api.set_node(group(advskew=0, version="v2"))
    report = world.wait_running(2)
    assert entry(report)["version"] == "v2"
    assert world.document["group"][0]["advskew"] == 0
    assert len(world.api.asked(f"GET {SECRETS}")) == 1
    world.api.secrets["kubecarp-key-intranet"] = key_ring(key_1=KEY, key_2="22" * 32)
    world.api.set_node(
        group(authentication={"mode": "Strict", "secretName": "kubecarp-key-intranet", "sign": "key-1", "accept": ["key-2"]})
    )
    world.wait_running(3)
    assert world.document["group"][0]["authentication"]["accept_keys"] == ["22" * 32]
    assert len(world.api.asked(f"GET {SECRETS}")) == 2


def test_nothing_is_written_when_nothing_changes(world: World) -> None:
    world.api.set_node(group())
    world.start_agent()
    world.wait_running(1)
    world.agent.stop()
    assert world.join() == 0
    count = len(world.api.reports)
    world.start_agent()
    world.api.wait_watching()
    wait_for(lambda: world.agent.stats.applies["ok"])
    world.sidecar.become("intranet", "demotion", transitions=0, since_s=999.0)
    world.agent.stop()
    assert world.join() == 0
    assert len(world.api.reports) == count
    assert world.reloads == 1


def test_a_missing_secret_keeps_the_old_and_is_told(world: World) -> None:
    world.api.set_node(group())
    world.start_agent()
    world.wait_running(1)
    world.api.set_node(group(), group("uplink", vhid=2))
    report = world.api.wait_report(lambda one: "problems" in one)
    assert report["observedGeneration"] == 1
    assert "Secret kubecarp-key-uplink does not exist in namespace kubecarp-system" in report["problems"][0]
    assert [one["name"] for one in world.document["group"]] == ["intranet"]
    world.api.secrets["kubecarp-key-uplink"] = key_ring(key_9="33" * 32)
    report = world.api.wait_report(lambda one: "has no key key-1" in one.get("problems", [""])[0])
    world.api.secrets["kubecarp-key-uplink"] = key_ring(key_1="33" * 32)
    report = world.wait_running(2)
    assert "problems" not in report


def test_a_refused_configuration_keeps_the_old_one_in_the_file_too(world: World) -> None:
    world.api.set_node(group())
    world.start_agent()
    world.wait_running(1)
    before = world.sidecar.config.read_bytes()
    world.sidecar.daemon.problems = ["group[0].vhid: is 300; give a whole number from 1 to 255"]
    world.api.set_node(group(vhid=300))
    report = world.api.wait_report(lambda one: "problems" in one)
    assert report["problems"] == world.sidecar.daemon.problems
    assert report["observedGeneration"] == 1
    assert world.sidecar.config.read_bytes() == before
    world.sidecar.daemon.problems = []
    world.api.set_node(group(vhid=3))
    assert "problems" not in world.wait_running(3)


def test_a_sidecar_that_comes_later_or_again_needs_no_push(world: World) -> None:
    world.sidecar.stop()
    world.api.set_node(group())
    world.start_agent()
    wait_for(world.sidecar.config.exists)
    world.sidecar.start()
    world.wait_running(1)
    assert world.reloads == 0
    world.sidecar.stop()
    report = world.api.wait_report(lambda one: not one["sidecar"]["running"])
    assert (entry(report)["state"], entry(report)["reason"]) == ("Init", "sidecar-gone")
    assert "master" not in entry(report)
    world.sidecar.start()
    world.wait_running(1)
    assert world.reloads == 0


def test_a_sidecar_that_missed_the_file_is_told(world: World) -> None:
    world.api.set_node(group())
    world.start_agent()
    world.wait_running(1)
    world.sidecar.stop()
    world.api.set_node(group(advskew=7))
    wait_for(lambda: world.document["generation"] == 2)
    written = world.sidecar.config.read_bytes()
    world.sidecar.config.unlink()
    world.sidecar.start()
    world.sidecar.config.write_bytes(written)
    world.wait_running(2)


def test_an_outage_of_the_api_changes_nothing_and_is_caught_up(world: World) -> None:
    world.api.set_node(group())
    world.start_agent()
    world.wait_running(1)
    world.api.stop()
    world.sidecar.become(state="MASTER", since="2026-03-01T12:05:00Z")
    wait_for(lambda: "cannot be used" in world.log())
    assert world.agent.stats.connected
    world.api.start()
    report = world.api.wait_report(lambda one: entry(one).get("state") == "Master")
    assert entry(report)["since"] == "2026-03-01T12:05:00Z"
    wait_for(lambda: "answers again" in world.log())
    assert (world.log().count("cannot be used"), world.log().count("answers again")) == (1, 1)


def test_started_without_an_api(world: World) -> None:
    world.api.set_node(group())
    world.start_agent()
    world.wait_running(1)
    world.agent.stop()
    world.join()
    world.api.stop()
    before = world.sidecar.config.read_bytes()
    world.start_agent()
    wait_for(lambda: world.agent.stats.connected)
    world.sidecar.become(state="MASTER")
    assert world.sidecar.config.read_bytes() == before
    world.api.start()
    world.api.wait_report(lambda one: entry(one).get("state") == "Master")


def test_a_new_token_is_used_for_the_next_request(world: World) -> None:
    world.api.set_node(group())
    world.start_agent()
    world.wait_running(1)
    world.api.token = "token-2"
    (world.folder / "token").write_text("token-2")
    world.sidecar.become(state="MASTER")
    world.api.wait_report(lambda one: entry(one).get("state") == "Master")
    assert "cannot be used" not in world.log()


def test_a_deleted_object_stops_the_groups_only_after_a_while(world: World) -> None:
    world.api.set_node(group())
    world.start_agent(gone_after_s=0.5)
    world.wait_running(1)
    world.api.delete_node()
    world.api.set_node(group(), uid="uid-2")
    report = world.wait_running(1)
    assert [file["generation"] for file in world.sidecar.daemon.files] in ([1], [1, 1])
    assert entry(report)["state"] == "Backup"
    world.api.delete_node()
    wait_for(lambda: world.document["group"] == [])
    wait_for(lambda: world.sidecar.daemon.document["groups"] == [])
    assert "no group runs here in 0.5 s" in world.log()


def test_an_outage_is_never_taken_for_a_deletion(world: World) -> None:
    world.api.set_node(group())
    world.start_agent(gone_after_s=0.0)
    world.wait_running(1)
    world.api.trouble["GET "] = (404, b'{"message":"no such resource"}')
    world.api.end_watches()
    wait_for(lambda: "cannot be read" in world.log())
    world.api.stop()
    wait_for(lambda: "cannot be used" in world.log())
    assert len(world.document["group"]) == 1
    world.api.trouble.clear()
    world.api.start()
    world.api.wait_watching()
    assert len(world.document["group"]) == 1


def test_a_node_without_an_object_runs_nothing(world: World) -> None:
    world.sidecar.config.write_text(json.dumps({"generation": 4, "group": [{"name": "old", "vhid": 9}]}))
    world.sidecar.stop()
    world.sidecar.start()
    world.start_agent(gone_after_s=0.1)
    wait_for(lambda: world.document["group"] == [])
    wait_for(lambda: world.sidecar.daemon.document["groups"] == [])
    assert not world.api.reports


def handover(id_: str, to: str = "172.27.27.2", age_s: float = 0.0) -> dict[str, Any]:
    import time

    return {"id": id_, "to": to, "requestedAt": write_time(time.time() - age_s)}


def test_a_handover_is_carried_out_once(world: World) -> None:
    world.api.set_node(group(handover=handover("a1")))
    world.start_agent()
    report = world.api.wait_report(lambda one: "handover" in entry(one))
    assert entry(report)["handover"] == {"id": "a1", "result": "Started"}
    world.sidecar.daemon.refusal = "group intranet is BACKUP on router-003: only the master can hand over; ask there"
    world.api.set_node(group(handover=handover("b2", "")))
    report = world.api.wait_report(lambda one: entry(one).get("handover", {}).get("id") == "b2")
    assert entry(report)["handover"] == {"id": "b2", "result": "Refused", "message": world.sidecar.daemon.refusal}
    world.agent.stop()
    world.join()
    world.start_agent()
    wait_for(lambda: world.agent.stats.applies["ok"])
    world.api.set_node(group(handover=handover("c3", age_s=130.0)))
    report = world.wait_running(3)
    assert entry(report)["handover"]["id"] == "b2"
    assert [call for call in world.sidecar.daemon.calls if call[0] == "handover"] == [
        ("handover", "intranet", "172.27.27.2"),
        ("handover", "intranet", None),
    ]


def test_sigterm_of_the_whole_pod_tells_the_end_of_the_sidecar(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("carp_agent.agent._STOP_S", DEADLINE_S)
    world.api.set_node(group())
    world.start_agent()
    world.wait_running(1)
    world.agent.stop()
    world.sidecar.become(state="HANDOVER")
    world.api.wait_report(lambda one: entry(one).get("state") == "Handover")
    world.sidecar.stop()
    assert world.join() == 0
    assert world.api.reports[-1]["sidecar"] == {"running": False}


def test_sigterm_of_the_agent_alone_tells_nothing(world: World) -> None:
    world.api.set_node(group())
    world.start_agent()
    world.wait_running(1)
    world.agent.stop()
    assert world.join() == 0
    assert world.api.reports[-1]["sidecar"]["running"]


def test_a_report_that_is_refused_is_tried_again_and_said_once(world: World) -> None:
    world.api.trouble["PATCH "] = (403, b'{"message":"forbidden"}')
    world.api.set_node(group())
    world.start_agent()
    wait_for(lambda: world.agent.stats.reports["failed"] >= 3)
    assert world.log().count("the status cannot be written: HTTP status 403: forbidden") == 1
    world.api.trouble.clear()
    world.wait_running(1)


def test_a_status_that_cannot_be_read_keeps_what_was_known(world: World) -> None:
    world.api.set_node(group())
    world.start_agent()
    world.wait_running(1)
    world.sidecar.become(state="CONFUSED")
    wait_for(lambda: "the status of the sidecar cannot be read" in world.log())
    world.sidecar.become(adverts=None, state="MASTER")
    world.sidecar.become(adverts={"rejected": {}})
    world.api.wait_report(lambda one: entry(one).get("state") == "Master")
    assert world.log().count("cannot be read") == 1


def test_a_defect_ends_the_process(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("boom")

    monkeypatch.setattr(Agent, "found", broken)
    world.api.set_node(group())
    world.start_agent()
    assert world.join() == 1
    assert "watcher failed because of an internal error" in world.log()
    world.log_path.write_text("")
