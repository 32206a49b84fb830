"""Whatever happens to a cluster and its operator, what is promised holds: hypothesis chooses what happens.

``--hypothesis-profile=fuzz`` looks for hours where the default looks for seconds.
"""

import random
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from carp_operator.handlers.cache import Kind
from lab.world import Cluster

Json = dict[str, Any]

GROUPS = st.sampled_from(["w", "x", "y", "z"])
NODES = st.sampled_from(["a", "b", "c", "d"])
ADDRESSES = st.lists(
    st.sampled_from(["10.77.0.100", "10.77.0.101/24", "10.77.0.102", "10.78.0.100", "FD77::9", "10.77.0.1", "198.51.100.1"]),
    min_size=1,
    max_size=3,
    unique=True,
)
SPECS = st.fixed_dictionaries(
    {},
    optional={
        "vhid": st.integers(1, 3),
        "nodeSelector": st.just({"matchLabels": {"edge": "yes"}}),
        "interface": st.sampled_from([{"name": "eth0"}, {"name": "eth7"}, {"pattern": "^eth"}, {"pattern": "(eth"}]),
        "authentication": st.sampled_from([{"secretRef": {"name": "mine"}}, {"mode": "Compatible"}]),
        "peers": st.just({"mode": "Unicast"}),
        "priorities": st.just([{"node": "a", "priority": 200}, {"node": "b", "priority": 0}]),
    },
)
LEAVES = {"NoEligibleNode", "InterfaceNotFound"}
"""Refusals that end it on nodes that are not selected any more."""


class Operators(RuleBasedStateMachine):
    """Users, nodes, agents and operators at cross purposes; ``teardown`` lets them come to rest and looks what is left."""

    @initialize(last_vhid=st.integers(1, 4))
    def begin(self, last_vhid: int) -> None:
        self.cluster = Cluster((), last_vhid=last_vhid)
        for number, name in enumerate("abc", 1):
            self.cluster.add_node(name, f"10.77.0.{number}", labels={"edge": "yes"} if name != "c" else {})
            self.interfaces(name, eth0=True, eth1=name != "a")
            self.cluster.agents[name].report()
        self.cluster.reconcile()
        self.ran: dict[str, int] = {}
        """VHIDs of groups that run, by uid."""

    # ---- users ------------------------------------------------------------------------------------------------

    @rule(name=GROUPS, addresses=ADDRESSES, spec=SPECS, request=st.sampled_from(["", "1", "2"]))
    def apply(self, name: str, addresses: list[str], spec: Json, request: str) -> None:
        known = self.cluster.objects[Kind.GROUP].get(name)
        if known and known["spec"]["authentication"]["mode"] != spec.get("authentication", {}).get("mode", "Strict"):
            return  # the API server refuses another mode
        self.cluster.apply_group(name, *addresses, annotations={"kubecarp.io/rotate-key": request}, **spec)

    @rule(name=GROUPS)
    def delete(self, name: str) -> None:
        if name in self.cluster.objects[Kind.GROUP]:
            self.cluster.delete(Kind.GROUP, name)

    @rule(value=st.sampled_from(["", "bad", "1" * 64, "2" * 64]))
    def user_secret(self, value: str) -> None:
        if value:
            self.cluster.apply_secret("mine", key=value)
        elif "mine" in self.cluster.objects[Kind.SECRET]:
            self.cluster.delete(Kind.SECRET, "mine")

    # ---- nodes ------------------------------------------------------------------------------------------------

    @rule(name=NODES, edge=st.booleans(), ready=st.booleans(), cordoned=st.booleans(), maintenance=st.booleans())
    def node(self, name: str, edge: bool, ready: bool, cordoned: bool, maintenance: bool) -> None:
        labels = {"edge": "yes"} if edge else {}
        state = {"ready": ready, "cordoned": cordoned, "maintenance": maintenance}
        self.cluster.add_node(name, f"10.77.0.{'abcd'.index(name) + 1}", labels=labels, **state)

    @rule(name=NODES)
    def node_goes(self, name: str) -> None:
        if name in self.cluster.objects[Kind.NODE]:
            self.cluster.delete(Kind.NODE, name)
            del self.cluster.agents[name]

    @rule(name=NODES, eth0=st.booleans(), eth1=st.booleans())
    def interfaces(self, name: str, eth0: bool, eth1: bool) -> None:
        number = "abcd".index(name) + 1
        if name in self.cluster.agents:
            there = {
                "eth0": [f"10.77.0.{number}/24", f"fd77::{number}/64"] if eth0 else [],
                "eth1": [f"10.78.0.{number}/24"] if eth1 else [],
            }
            self.cluster.agents[name].interfaces = [
                {"name": one, "state": "Up", "addresses": addresses} for one, addresses in there.items() if addresses
            ]

    @rule(name=NODES, up=st.booleans())
    def sidecar(self, name: str, up: bool) -> None:
        if name in self.cluster.agents:
            self.cluster.agents[name].up = up

    @rule(name=NODES)
    def follow(self, name: str) -> None:
        if name in self.cluster.agents:
            self.cluster.agents[name].follow()

    @rule(name=NODES)
    def report(self, name: str) -> None:
        if name in self.cluster.agents:
            self.cluster.elect()
            self.cluster.agents[name].report()

    @rule(name=NODES)
    def carp_node_is_deleted(self, name: str) -> None:
        if name in self.cluster.objects[Kind.CARP_NODE]:
            self.cluster.delete(Kind.CARP_NODE, name)

    # ---- operators --------------------------------------------------------------------------------------------

    @rule(seconds=st.sampled_from([0, 1, 3, 60]))
    def reconcile(self, seconds: int) -> None:
        before = self.entries()
        self.cluster.now += seconds
        self.cluster.reconcile()
        if not self.cluster.lagging:
            self.refused_ones_go_on(before)
            self.vhids_stay()

    @rule(seed=st.integers(0, 99))
    def reconcile_with_losses(self, seed: int) -> None:
        dice = random.Random(seed)
        self.cluster.reconcile(lambda _kind, _name: dice.random() < 0.3)

    @rule()
    def restart(self) -> None:
        self.cluster.restart()

    @rule(lagging=st.booleans())
    def lag(self, lagging: bool) -> None:
        self.cluster.lagging = lagging

    @precondition(lambda self: self.cluster.lagging)
    @rule()
    def deliver(self) -> None:
        self.cluster.deliver()

    # ---- what is promised -------------------------------------------------------------------------------------

    def entries(self) -> dict[str, dict[str, Json]]:
        """By uid of the group and node."""
        return {body["metadata"]["uid"]: self.cluster.entries(name) for name, body in self.cluster.objects[Kind.GROUP].items()}

    def refused_ones_go_on(self, before: dict[str, dict[str, Json]]) -> None:
        """With the entries they had, but for maintenance, on every node that may still be a member."""
        for name, body in self.cluster.objects[Kind.GROUP].items():
            now, then = self.cluster.entries(name), before.get(body["metadata"]["uid"], {})
            status, reason, _ = self.cluster.condition(name, "Accepted")
            if status == "True" or not self.cluster.status(name).get("vhid"):
                continue
            selected = {
                node
                for node, found in self.cluster.objects[Kind.NODE].items()
                if reason not in LEAVES
                or body["spec"].get("nodeSelector", {"matchLabels": {}})["matchLabels"].items() <= found["metadata"]["labels"].items()
            }
            assert now.keys() == then.keys() & selected
            for node, entry in now.items():
                assert _lasting(entry) == _lasting(then[node])

    def vhids_stay(self) -> None:
        for name, body in self.cluster.objects[Kind.GROUP].items():
            uid, found = body["metadata"]["uid"], {entry["vhid"] for entry in self.cluster.entries(name).values()}
            assert len(found) <= 1
            if not found:
                self.ran.pop(uid, None)
            for vhid in found:
                assert self.ran.setdefault(uid, vhid) == vhid

    @invariant()
    def every_sidecar_takes_what_it_is_told(self) -> None:
        for body in self.cluster.objects[Kind.CARP_NODE].values():
            addresses = [address.partition("/")[0] for entry in body["spec"].get("groups", ()) for address in entry["addresses"]]
            assert len(set(addresses)) == len(addresses)
            places = [(entry["interface"], entry["vhid"]) for entry in body["spec"].get("groups", ()) if "interface" in entry]
            assert len(set(places)) == len(places)

    def teardown(self) -> None:
        cluster = self.cluster
        for name, agent in cluster.agents.items():
            agent.up = True
            self.interfaces(name, eth0=True, eth1=True)
        cluster.now += 100
        cluster.settle()
        cluster.now += 100
        cluster.settle()
        self.nobody_shares()
        for name in cluster.objects[Kind.GROUP]:
            if cluster.condition(name, "Accepted")[0] == "True":
                assert cluster.condition(name, "Programmed")[0] == "True"
                assert len(cluster.secret(f"kubecarp-key-{name}")) == 2
        cluster.now += 100
        cluster.restart()
        plan = cluster.plan()
        assert (plan.rings, plan.carp_nodes, plan.statuses, plan.events) == ((), (), (), ()), "another operator finds nothing to do"

    def nobody_shares(self) -> None:
        """Now that every node is on both networks and tells it: each address and each VHID of a network has one owner."""
        owners: dict[object, str] = {}
        for name in self.cluster.objects[Kind.GROUP]:
            for entry in self.cluster.entries(name).values():
                for address in entry["addresses"]:
                    assert owners.setdefault(address.partition("/")[0].lower(), name) == name
        accepted = [name for name in self.cluster.objects[Kind.GROUP] if self.cluster.condition(name, "Accepted")[0] == "True"]
        for name in accepted:
            for entry in self.cluster.entries(name).values():
                network = entry.get("interface") or ("eth1" if entry["addresses"][0].startswith("10.78") else "eth0")
                assert owners.setdefault((network, entry["vhid"]), name) == name


def _lasting(entry: Json) -> Json:
    return {key: value for key, value in entry.items() if key not in {"version", "demotion"}}


TestOperators = Operators.TestCase
TestOperators.settings = settings(max_examples=settings().max_examples // 2, stateful_step_count=30)
