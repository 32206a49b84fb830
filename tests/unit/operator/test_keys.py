"""Keys: made once, taken from a user's Secret, and replaced so that nobody ever signs with what another would refuse."""

import base64
from collections.abc import Iterator

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from carp_operator.api.reasons import Reason
from carp_operator.handlers.cache import Kind
from carp_operator.plan.keys import next_ring, source_key
from carp_operator.plan.world import KeyRing, Refusal
from lab.pieces import group
from lab.world import KEY, NODES, Cluster

ONE, TWO, THREE = b"1" * 64, b"2" * 64, b"3" * 64
STRICT, COMPATIBLE = {"mode": "Strict", "secretRef": {"name": "mine"}}, {"mode": "Compatible", "secretRef": {"name": "mine"}}


def ring(sign: str = "key-1", owner: str = "uid-web", rotated_for: str = "", **keys: bytes) -> KeyRing:
    """``key_1=b"..."``: the key with the name key-1."""
    return KeyRing(sign=sign, keys={name.replace("_", "-"): key for name, key in keys.items()}, rotated_for=rotated_for, owner=owner)


def step(
    before: KeyRing | None, source: bytes | None = None, *, rotate: str = "", settled: bool = True, known: tuple[str, ...] = ()
) -> KeyRing | None:
    one = group(annotations={"kubecarp.io/rotate-key": rotate} if rotate else {})
    return next_ring(one, before, source, known=frozenset(known), settled=settled, make=lambda: THREE)


# ---- the key of a user ------------------------------------------------------------------------------------------


def test_without_a_secret_of_the_user_there_is_no_source() -> None:
    assert source_key(group(), {"mine": {"key": ONE}}) is None


@pytest.mark.parametrize(
    "authentication, entries, key",
    [
        pytest.param(STRICT, {"key": KEY.encode()}, KEY.encode(), id="hexadecimal"),
        pytest.param(STRICT, {"key": base64.b64encode(bytes.fromhex(KEY))}, KEY.encode(), id="base64"),
        pytest.param(STRICT, {"key": KEY.upper().encode() + b"\n"}, KEY.encode(), id="with a line end, in capitals"),
        pytest.param(COMPATIBLE, {"password": b"secret"}, b"secret", id="a password"),
        pytest.param(COMPATIBLE, {"key": b"secret"}, b"secret", id="a password named key"),
        pytest.param(COMPATIBLE, {"key": b"one", "password": b"two"}, b"two", id="both"),
        pytest.param(COMPATIBLE, {"password": "größer".encode() + b"\r\nrest"}, "größer".encode(), id="the first line counts"),
    ],
)
def test_what_a_user_may_write(authentication: dict[str, object], entries: dict[str, bytes], key: bytes) -> None:
    assert source_key(group(authentication=authentication), {"mine": entries}) == key


@pytest.mark.parametrize(
    "authentication, secrets, reason, message",
    [
        pytest.param(
            STRICT,
            {"other": {"key": ONE}},
            Reason.SECRET_NOT_FOUND,
            "Secret mine is not in the operator's namespace; create it there, or leave secretRef out to have a key made",
            id="no Secret",
        ),
        pytest.param(STRICT, {"mine": {}}, Reason.KEY_MISSING, "Secret mine has no entry key; add it", id="no key"),
        pytest.param(
            STRICT, {"mine": {"password": b"x"}}, Reason.KEY_MISSING, "Secret mine has no entry key; add it", id="a password in Strict mode"
        ),
        pytest.param(COMPATIBLE, {"mine": {}}, Reason.KEY_MISSING, "Secret mine has no entry password or key; add it", id="no password"),
        pytest.param(
            STRICT,
            {"mine": {"key": b"secret"}},
            Reason.KEY_INVALID,
            'Secret mine: a Strict key is 32 bytes, as 64 hex digits or base64; make one with "carp-sidecar key > FILE"',
            id="no key at all",
        ),
        pytest.param(
            COMPATIBLE,
            {"mine": {"password": b"p" * 20}},
            Reason.KEY_TOO_LONG,
            "Secret mine: the password has 20 bytes; carp(4) uses 1 to 19, the first line counts",
            id="too long",
        ),
        pytest.param(
            COMPATIBLE,
            {"mine": {"password": b"\nsecret"}},
            Reason.KEY_INVALID,
            "Secret mine: the password has 0 bytes; carp(4) uses 1 to 19, the first line counts",
            id="an empty first line",
        ),
        pytest.param(
            COMPATIBLE,
            {"mine": {"password": b"\xff\xfe"}},
            Reason.KEY_INVALID,
            "Secret mine: the password is not UTF-8 text without NUL; choose another one, or use Strict mode",
            id="bytes that no document can hold",
        ),
        pytest.param(
            COMPATIBLE,
            {"mine": {"password": b"a\0b"}},
            Reason.KEY_INVALID,
            "Secret mine: the password is not UTF-8 text without NUL; choose another one, or use Strict mode",
            id="a NUL",
        ),
    ],
)
def test_what_is_no_key(authentication: dict[str, object], secrets: dict[str, dict[str, bytes]], reason: Reason, message: str) -> None:
    assert source_key(group(authentication=authentication), secrets) == Refusal(reason, message)


# ---- one step ---------------------------------------------------------------------------------------------------


def test_the_first_ring_has_one_key() -> None:
    assert step(None) == ring("key-1", key_1=THREE)
    assert step(None, TWO) == ring("key-1", key_1=TWO)
    assert step(None, rotate="now") == ring("key-1", key_1=THREE, rotated_for="now"), "a key that is new need not be replaced"


@pytest.mark.parametrize("settled", [True, False])
def test_with_one_key_nothing_is_to_do(settled: bool) -> None:
    assert step(ring(key_1=ONE), settled=settled) is None
    assert step(ring(key_1=ONE), ONE, settled=settled) is None


def test_a_rotation_walks_through_accept_send_and_drop() -> None:
    accept = step(ring(key_1=ONE), rotate="now")
    assert accept == ring("key-1", key_1=ONE, key_2=THREE, rotated_for="now")
    assert accept is not None
    assert accept.accept == ("key-2",)
    assert step(accept, rotate="now", settled=False) is None, "not before everybody believes the new one"
    send = step(accept, rotate="now")
    assert send == ring("key-2", key_1=ONE, key_2=THREE, rotated_for="now")
    assert step(send, rotate="now", settled=False) is None, "not before nobody signs with the old one"
    drop = step(send, rotate="now")
    assert drop == ring("key-2", key_2=THREE, rotated_for="now")
    assert step(drop, rotate="now") is None, "the same request makes no second key"
    assert step(drop) is None, "nor does one that is taken back"


def test_a_changed_secret_begins_a_rotation() -> None:
    assert step(ring(key_1=ONE), TWO) == ring("key-1", key_1=ONE, key_2=TWO)


def test_a_secret_that_changes_during_a_rotation_waits_for_its_end() -> None:
    accept = ring("key-1", key_1=ONE, key_2=TWO)
    send = step(accept, THREE)
    assert send == ring("key-2", key_1=ONE, key_2=TWO)
    drop = step(send, THREE)
    assert drop == ring("key-2", key_2=TWO)
    assert step(drop, THREE) == ring("key-2", key_2=TWO, key_3=THREE)


def test_a_key_that_the_user_gave_is_replaced_by_the_user() -> None:
    assert step(ring(key_1=ONE), ONE, rotate="now") is None


def test_a_secret_that_is_not_named_any_more_leaves_its_key() -> None:
    assert step(ring(key_1=ONE), None) is None


@pytest.mark.parametrize("known", [(), ("key-1",), ("key-3", "key-12")])
def test_no_name_ever_stands_for_two_keys(known: tuple[str, ...]) -> None:
    number = 1 + max([0, *(int(name.removeprefix("key-")) for name in known)])
    assert step(None, known=known) == KeyRing(sign=f"key-{number}", keys={f"key-{number}": THREE}, owner="uid-web")


@pytest.mark.parametrize(
    "broken",
    [
        pytest.param(ring(key_4=ONE, owner="uid-of-an-earlier-web", sign="key-4"), id="of an earlier group of the name"),
        pytest.param(ring(key_4=ONE, sign="key-3"), id="without the key that should sign"),
        pytest.param(ring(sign="", key_4=ONE), id="that does not say what signs"),
    ],
)
def test_a_ring_that_cannot_be_used_is_made_anew(broken: KeyRing) -> None:
    assert step(broken) == ring("key-5", key_5=THREE)


def test_an_empty_ring_is_made_anew() -> None:
    assert step(ring(sign="")) == ring("key-1", key_1=THREE)


def test_keys_are_numbered_not_sorted() -> None:
    accept = ring("key-9", key_9=ONE, key_10=TWO)
    assert accept.newest == "key-10"
    send = step(accept)
    assert send is not None
    assert send.sign == "key-10"


def test_a_name_that_somebody_else_gave_is_the_oldest() -> None:
    assert ring("key-1", mine=ONE, key_1=TWO).newest == "key-1"
    assert step(ring(sign="mine", mine=ONE), TWO) == ring("mine", mine=ONE, key_1=TWO)


# ---- the whole cluster ------------------------------------------------------------------------------------------


def pairs(cluster: Cluster, name: str = "web") -> Iterator[tuple[str, str]]:
    """Of members that run, one that signs with what another one does not believe."""
    keys = {node: agent.keys[name] for node, agent in cluster.agents.items() if agent.up and name in agent.keys}
    for one, (sign, _) in keys.items():
        for other, (_, believed) in keys.items():
            if sign not in believed:
                yield one, other


def running() -> Cluster:
    cluster = Cluster()
    cluster.apply_group("web")
    cluster.settle()
    return cluster


def test_a_ring_that_somebody_deleted_is_put_back() -> None:
    cluster = running()
    before = cluster.secret("kubecarp-key-web")
    cluster.delete(Kind.SECRET, "kubecarp-key-web")
    cluster.reconcile()
    assert cluster.secret("kubecarp-key-web") == before
    assert cluster.plan().carp_nodes == (), "nobody has to do anything"


def test_a_ring_that_was_deleted_while_no_operator_ran_gets_another_name() -> None:
    cluster = running()
    cluster.delete(Kind.SECRET, "kubecarp-key-web")
    cluster.restart()
    cluster.settle()
    assert set(cluster.secret("kubecarp-key-web")) == {"sign", "key-2"}
    assert {entry["authentication"]["sign"] for entry in cluster.entries("web").values()} == {"key-2"}


def test_a_group_that_was_made_anew_gets_a_key_of_its_own() -> None:
    cluster = running()
    ring_before = cluster.objects[Kind.SECRET]["kubecarp-key-web"]
    cluster.delete(Kind.GROUP, "web")
    cluster.put(Kind.SECRET, ring_before | {"metadata": ring_before["metadata"] | {"uid": "not-collected-yet"}})
    cluster.apply_group("web")
    cluster.settle()
    assert set(cluster.secret("kubecarp-key-web")) == {"sign", "key-2"}
    assert cluster.secret("kubecarp-key-web")["key-2"] != base64.b64decode(ring_before["data"]["key-1"]).decode()


def test_a_node_that_left_and_still_runs_the_group_holds_a_rotation_up() -> None:
    cluster = Cluster()
    for name in NODES:
        cluster.add_node(name, labels={"edge": "yes"})
    cluster.apply_group("web", nodeSelector={"matchLabels": {"edge": "yes"}})
    cluster.settle()
    cluster.add_node("c", labels={})
    cluster.apply_group("web", nodeSelector={"matchLabels": {"edge": "yes"}}, annotations={"kubecarp.io/rotate-key": "now"})
    for _ in range(10):
        cluster.reconcile()
        for name in ("a", "b"):
            cluster.agents[name].follow()
            cluster.agents[name].report()
        assert not list(pairs(cluster))
    assert set(cluster.secret("kubecarp-key-web")) == {"sign", "key-1", "key-2"}
    assert cluster.condition("web", "Degraded")[1:] == ("KeyRotation", "a key is being replaced; it goes on when every member has followed")
    cluster.settle()
    assert set(cluster.secret("kubecarp-key-web")) == {"sign", "key-2"}


class Rotation(RuleBasedStateMachine):
    """Members follow and report late and in any order, the operator is restarted and loses writes, users change their minds."""

    @initialize(named=st.booleans(), strict=st.booleans())
    def begin(self, named: bool, strict: bool) -> None:
        self.cluster = Cluster()
        self.strict, self.named = strict, named
        self.requests = 0
        if named:
            self.change_secret()
        self.apply()
        self.cluster.settle()

    def apply(self) -> None:
        authentication = {"mode": "Strict" if self.strict else "Compatible"} | ({"secretRef": {"name": "mine"}} if self.named else {})
        self.cluster.apply_group("web", authentication=authentication, annotations={"kubecarp.io/rotate-key": f"{self.requests}"})

    @precondition(lambda self: self.named)
    @rule()
    def change_secret(self) -> None:
        self.requests += 1
        self.cluster.apply_secret("mine", **({"key": f"{self.requests:064x}"} if self.strict else {"password": f"mine-{self.requests}"}))

    @rule()
    def ask(self) -> None:
        self.requests += 1
        self.apply()

    @rule(node=st.sampled_from(NODES))
    def follow(self, node: str) -> None:
        self.cluster.agents[node].follow()

    @rule(node=st.sampled_from(NODES))
    def report(self, node: str) -> None:
        self.cluster.agents[node].report()

    @rule(lost=st.sampled_from(["", "Secret", "a", "b", "web"]))
    def reconcile(self, lost: str) -> None:
        self.cluster.reconcile(lambda kind, name: lost in (str(kind), name))

    @rule()
    def restart(self) -> None:
        self.cluster.restart()

    @rule(lagging=st.booleans())
    def lag(self, lagging: bool) -> None:
        self.cluster.lagging = lagging

    @rule()
    def delete_ring(self) -> None:
        """By hand, with an operator that sees it."""
        self.cluster.lagging = False
        self.cluster.reconcile()
        self.cluster.delete(Kind.SECRET, "kubecarp-key-web")
        self.cluster.reconcile()

    @invariant()
    def everybody_is_understood(self) -> None:
        assert not list(pairs(self.cluster))

    def teardown(self) -> None:
        cluster = self.cluster
        cluster.settle()
        entries = cluster.secret("kubecarp-key-web")
        assert len(entries) == 2, "a rotation comes to its end"
        if self.named:
            (key,) = cluster.secret("mine").values()
            assert entries[entries["sign"]] == key
        assert not list(pairs(cluster))


TestRotation = Rotation.TestCase

TestRotation.settings = settings(max_examples=settings().max_examples // 2, stateful_step_count=30)
