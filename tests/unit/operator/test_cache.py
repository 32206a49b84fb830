"""What the cache believes, and what it tells the planner of it: a report costs one group, a heartbeat nothing."""

from typing import Any

import pytest

from carp_operator.handlers.cache import Cache, Kind
from carp_operator.kube.bodies import ring_body
from carp_operator.plan.planner import Changes
from carp_operator.plan.world import KeyRing
from lab.pieces import group

Json = dict[str, Any]


def body(name: str, version: int = 1, *, uid: str = "", **more: Any) -> Json:
    metadata = {"name": name, "uid": uid or f"uid-{name}", "resourceVersion": str(version), "generation": 1}
    return {"metadata": metadata | more.pop("metadata", {})} | more


def a_group(name: str = "web", version: int = 1, *, status: Json | None = None, **metadata: Any) -> Json:
    return body(name, version, metadata=metadata, spec={"addresses": ["10.0.0.1"]}, status=status or {})


def a_node(name: str = "a", version: int = 1, *, ready: bool = True, **metadata: Any) -> Json:
    conditions = [{"type": "Ready", "status": str(ready), "lastHeartbeatTime": f"{version}"}]
    return body(name, version, metadata=metadata, status={"conditions": conditions, "addresses": []})


def a_carp_node(name: str = "a", version: int = 1, *, groups: Json | None = None, spec: Json | None = None, **status: Any) -> Json:
    """``groups``: state by name."""
    reports = [{"name": one, "state": state} for one, state in (groups or {}).items()]
    told = {"sidecar": {"running": True}, "groups": reports} | status
    return body(name, version, spec=spec or {}, status=told)


def a_ring(name: str = "web", version: int = 1, key: bytes = b"x") -> Json:
    made = ring_body(group(name), KeyRing(sign="key-1", keys={"key-1": key}, owner=f"uid-{name}"), "ns")
    made["metadata"]["resourceVersion"] = str(version)
    return made


def a_secret(name: str = "mine", version: int = 1, **data: str) -> Json:
    return body(name, version, type="Opaque", data=data)


@pytest.fixture
def cache() -> Cache:
    """One that knows an object of each kind, and has told so."""
    cache = Cache()
    cache.put(Kind.GROUP, a_group())
    cache.put(Kind.NODE, a_node())
    cache.put(Kind.CARP_NODE, a_carp_node(groups={"web": "Backup", "db": "Backup"}, spec={"groups": [{"name": "web"}, {"name": "new"}]}))
    cache.put(Kind.SECRET, a_ring())
    cache.put(Kind.SECRET, a_secret(key="eA=="))
    cache.take_changes()
    return cache


def told(cache: Cache, kind: Kind, *bodies: Json) -> Changes:
    for one in bodies:
        cache.put(kind, one)
    return cache.take_changes()


# ---- what is believed -------------------------------------------------------------------------------------------


def test_everything_is_news_at_first() -> None:
    cache = Cache()
    cache.put(Kind.GROUP, a_group())
    cache.put(Kind.NODE, a_node())
    cache.put(Kind.CARP_NODE, a_carp_node("b", groups={"db": "Master"}, spec={"groups": [{"name": "web"}]}))
    cache.put(Kind.SECRET, a_ring("db"))
    assert cache.take_changes() == Changes(groups={"web"}, reports={"db", "web"}, nodes={"a", "b"}, written={"b"})
    assert not cache.take_changes(), "what is taken is not told again"


@pytest.mark.parametrize("version", [0, 1, 4])
def test_an_older_version_never_overwrites(cache: Cache, version: int) -> None:
    cache.put(Kind.GROUP, a_group(version=5, status={"vhid": 7}))
    cache.put(Kind.GROUP, a_group(version=version, status={"vhid": 1}))
    assert cache.world.groups["web"].status.vhid == 7


def test_the_same_version_may_come_twice(cache: Cache) -> None:
    cache.put(Kind.GROUP, a_group(version=5))
    cache.take_changes()
    assert not told(cache, Kind.GROUP, a_group(version=5))


def test_versions_are_numbers(cache: Cache) -> None:
    cache.put(Kind.GROUP, a_group(version=99, status={"vhid": 1}))
    cache.put(Kind.GROUP, a_group(version=100, status={"vhid": 7}))
    assert cache.world.groups["web"].status.vhid == 7


def test_an_answer_to_a_write_that_comes_after_the_news_of_a_deletion_brings_nothing_back(cache: Cache) -> None:
    cache.drop(Kind.GROUP, a_group())
    assert told(cache, Kind.GROUP, a_group(version=9, status={"vhid": 7})) == Changes(groups={"web"}, reports=set())
    assert "web" not in cache.world.groups


def test_a_new_object_of_the_name_is_another_one(cache: Cache) -> None:
    cache.drop(Kind.GROUP, a_group())
    cache.put(Kind.GROUP, a_group(version=10, uid="uid-new"))
    assert cache.world.groups["web"].uid == "uid-new"


def test_the_news_of_a_deletion_that_comes_late_leaves_the_next_object_of_the_name(cache: Cache) -> None:
    """The operator has made a CarpNode anew before it heard that the one before was deleted."""
    cache.put(Kind.CARP_NODE, a_carp_node(version=10) | body("a", 10, uid="uid-new"))
    cache.take_changes()
    cache.drop(Kind.CARP_NODE, a_carp_node())
    assert not cache.take_changes()
    assert "a" in cache.world.carp_nodes
    cache.put(Kind.CARP_NODE, body("a", 11, uid="uid-new", spec={"rollCall": 1}))
    assert cache.world.carp_nodes["a"].roll_call == 1


def test_what_is_being_deleted_is_gone(cache: Cache) -> None:
    going = a_group(version=2, deletionTimestamp="2026-11-25T12:00:00Z")
    assert told(cache, Kind.GROUP, going) == Changes(groups={"web"})
    assert cache.world.groups == {}
    assert not told(cache, Kind.GROUP, going | {"metadata": going["metadata"] | {"resourceVersion": "3"}})


def test_a_list_drops_what_is_gone_but_not_what_came_later(cache: Cache) -> None:
    cache.put(Kind.GROUP, a_group("kept", version=8))
    cache.put(Kind.GROUP, a_group("later", version=21))
    cache.take_changes()
    cache.replace_all(Kind.GROUP, [a_group("kept", version=8), a_group("fresh", version=15)], version=20)
    assert sorted(cache.world.groups) == ["fresh", "kept", "later"]
    assert cache.take_changes() == Changes(groups={"web", "fresh"})
    assert sorted(cache.world.nodes) == ["a"], "a list of one kind says nothing of another"


def test_a_list_that_is_older_than_what_is_known_takes_nothing_back(cache: Cache) -> None:
    cache.put(Kind.GROUP, a_group(version=30, status={"vhid": 7}))
    cache.replace_all(Kind.GROUP, [a_group(version=5)], version=20)
    assert cache.world.groups["web"].status.vhid == 7


def test_an_object_that_cannot_be_read_leaves_what_was_known(cache: Cache, caplog: pytest.LogCaptureFixture) -> None:
    assert not told(cache, Kind.GROUP, body("web", 9, spec={"addresses": ["nonsense"]}))
    assert "CarpGroup web cannot be read" in caplog.text
    assert "web" in cache.world.groups


def test_what_could_not_be_acted_upon_comes_again(cache: Cache) -> None:
    first = told(cache, Kind.GROUP, a_group(version=2, generation=2))
    cache.put(Kind.NODE, a_node("b"))
    cache.give_back(first)
    assert cache.take_changes() == Changes(groups={"web"}, nodes={"b"})


@pytest.mark.parametrize("kind, name", [(Kind.GROUP, "x"), (Kind.NODE, "x"), (Kind.CARP_NODE, "x"), (Kind.SECRET, "x")])
def test_dropping_what_was_never_known_is_no_news(cache: Cache, kind: Kind, name: str) -> None:
    cache.drop(kind, body(name))
    assert not cache.take_changes()


def test_deleted_objects_are_not_remembered_for_ever(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("carp_operator.handlers.cache._REMEMBERED", 10)
    for number in range(50):
        cache.put(Kind.NODE, a_node(f"n{number}"))
        cache.drop(Kind.NODE, a_node(f"n{number}"))
    assert len(cache._gone) == 10


# ---- what is told -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "after, expected",
    [
        pytest.param(a_group(version=2), Changes(), id="the same again"),
        pytest.param(a_group(version=2, labels={"x": "y"}), Changes(), id="a label"),
        pytest.param(a_group(version=2, annotations={"example.com/note": "x"}), Changes(), id="an annotation of somebody"),
        pytest.param(a_group(version=2, generation=2), Changes(groups={"web"}), id="its spec"),
        pytest.param(a_group(version=2, uid="other"), Changes(groups={"web"}), id="another object"),
        pytest.param(a_group(version=2, annotations={"kubecarp.io/rotate-key": "x"}), Changes(groups={"web"}), id="a rotation"),
        pytest.param(
            a_group(version=2, annotations={"kubecarp.io/handover": '{"id": "x", "at": "2026-11-25T12:00:00Z"}'}),
            Changes(groups={"web"}),
            id="a handover",
        ),
        pytest.param(a_group(version=2, status={"vhid": 7}), Changes(statuses={"web"}), id="its status"),
    ],
)
def test_a_group(cache: Cache, after: Json, expected: Changes) -> None:
    assert told(cache, Kind.GROUP, after) == expected


@pytest.mark.parametrize(
    "after, expected",
    [
        pytest.param(a_node(version=2), Changes(), id="a heartbeat"),
        pytest.param(a_node(version=2, annotations={"x": "y"}), Changes(), id="an annotation of somebody"),
        pytest.param(a_node(version=2, ready=False), Changes(reports={"web", "db", "new"}), id="not ready"),
        pytest.param(a_node(version=2, labels={"x": "y"}), Changes(nodes={"a"}), id="a label"),
        pytest.param(a_node(version=2, uid="other"), Changes(nodes={"a"}), id="another object"),
        pytest.param(a_node(version=2, annotations={"kubecarp.io/maintenance": "true"}), Changes(nodes={"a"}), id="maintenance"),
        pytest.param(a_node(version=2) | {"spec": {"unschedulable": True}}, Changes(nodes={"a"}), id="cordoned"),
        pytest.param(
            a_node(version=2, ready=False, labels={"x": "y"}), Changes(nodes={"a"}, reports={"web", "db", "new"}), id="both at once"
        ),
    ],
)
def test_a_node(cache: Cache, after: Json, expected: Changes) -> None:
    assert told(cache, Kind.NODE, after) == expected


SPEC = {"groups": [{"name": "web"}, {"name": "new"}]}
BEFORE = {"web": "Backup", "db": "Backup"}


@pytest.mark.parametrize(
    "after, expected",
    [
        pytest.param(a_carp_node(version=2, groups=BEFORE, spec=SPEC), Changes(), id="the same again"),
        pytest.param(a_carp_node(version=2, groups=BEFORE | {"web": "Master"}, spec=SPEC), Changes(reports={"web"}), id="one group"),
        pytest.param(
            a_carp_node(version=2, groups={"web": "Backup"}, spec=SPEC), Changes(reports={"db"}), id="a group that is not told any more"
        ),
        pytest.param(a_carp_node(version=2, groups=BEFORE), Changes(written={"a"}), id="its spec"),
        pytest.param(a_carp_node(version=2, groups=BEFORE, spec=SPEC | {"rollCall": 1}), Changes(written={"a"}), id="a roll call"),
        pytest.param(
            a_carp_node(version=2, groups=BEFORE, spec=SPEC, interfaces=[{"name": "eth0", "state": "Up"}]),
            Changes(nodes={"a"}),
            id="an interface",
        ),
        pytest.param(
            a_carp_node(version=2, groups=BEFORE, spec=SPEC, problems=["no"]), Changes(reports={"web", "db", "new"}), id="a problem"
        ),
        pytest.param(
            a_carp_node(version=2, groups={"web": "Init"}, spec=SPEC, sidecar={"running": False}),
            Changes(reports={"web", "db", "new"}),
            id="its sidecar ended, and a group vanished with it",
        ),
        pytest.param(a_carp_node(version=2, groups=BEFORE, spec=SPEC, observedGeneration=7), Changes(), id="it follows"),
    ],
)
def test_a_carp_node(cache: Cache, after: Json, expected: Changes) -> None:
    assert told(cache, Kind.CARP_NODE, after) == expected


def test_carrier_comes_and_goes_without_anybody_being_told(cache: Cache) -> None:
    def with_state(version: int, state: str) -> Json:
        return a_carp_node(
            version=version, groups=BEFORE, spec=SPEC, interfaces=[{"name": "eth0", "state": state, "addresses": ["10.0.0.1/24"]}]
        )

    assert told(cache, Kind.CARP_NODE, with_state(2, "Up"))
    assert not told(cache, Kind.CARP_NODE, with_state(3, "Down"))


def test_an_answer_to_a_roll_call_is_told_for_every_group(cache: Cache) -> None:
    called = SPEC | {"rollCall": 3}
    told(cache, Kind.CARP_NODE, a_carp_node(version=2, groups=BEFORE, spec=called, observedGeneration=1))
    answer = a_carp_node(version=3, groups=BEFORE, spec=called, observedGeneration=2)
    assert told(cache, Kind.CARP_NODE, answer) == Changes(reports={"web", "db", "new"})


def test_a_node_and_a_carp_node_that_go(cache: Cache) -> None:
    cache.drop(Kind.NODE, a_node())
    assert cache.take_changes() == Changes(nodes={"a"}, reports={"web", "db", "new"})
    cache.drop(Kind.CARP_NODE, a_carp_node())
    assert cache.take_changes() == Changes(nodes={"a"}, reports={"web", "db", "new"})


def test_a_secret_is_told_to_those_that_name_it(cache: Cache) -> None:
    for name in ("web", "db"):
        named = a_group(name, version=3, generation=3)
        named["spec"]["authentication"] = {"secretRef": {"name": "mine"}}
        cache.put(Kind.GROUP, named)
    cache.put(Kind.GROUP, a_group("other", version=4))
    cache.take_changes()
    assert not told(cache, Kind.SECRET, a_secret(version=2, key="eA==", note="eA=="))
    assert told(cache, Kind.SECRET, a_secret(version=3, key="eQ==")) == Changes(groups={"web", "db"})
    cache.drop(Kind.SECRET, a_secret())
    assert cache.take_changes() == Changes(groups={"web", "db"})


def test_of_a_users_secret_only_what_could_be_a_key_is_kept(cache: Cache) -> None:
    cache.put(Kind.SECRET, a_secret("tls", version=5, **{"tls.key": "eA==", "key": "eQ=="}))
    assert cache.world.secrets["tls"] == {"key": b"y"}
    cache.put(Kind.SECRET, a_secret("token", version=5, token="eA=="))
    assert cache.world.secrets["token"] == {}, "there, and without a key: another mistake than not being there"


def test_a_ring_is_told_when_it_is_another_one(cache: Cache) -> None:
    assert not told(cache, Kind.SECRET, a_ring(version=2))
    assert cache.ring_versions["web"] == "2"
    assert told(cache, Kind.SECRET, a_ring(version=3, key=b"y")) == Changes(reports={"web"})
    cache.drop(Kind.SECRET, a_ring())
    assert cache.take_changes() == Changes(reports={"web"})
    assert (cache.world.rings, cache.ring_versions) == ({}, {})


def test_a_secret_that_only_looks_like_a_ring_is_none(cache: Cache) -> None:
    impostor = a_ring("db")
    impostor["metadata"]["labels"] = {"kubecarp.io/group": "web"}
    cache.put(Kind.GROUP, a_group("db"))
    cache.take_changes()
    assert told(cache, Kind.SECRET, impostor) == Changes(groups={"db"}), "its name is taken"
    assert sorted(cache.world.rings) == ["web"]
    assert cache.world.secrets["kubecarp-key-db"] == {}


def test_what_becomes_a_ring_is_no_stranger_any_more(cache: Cache) -> None:
    stranger = a_ring("db")
    del stranger["metadata"]["labels"]
    cache.put(Kind.SECRET, stranger)
    cache.put(Kind.GROUP, a_group("db"))
    cache.take_changes()
    assert told(cache, Kind.SECRET, a_ring("db", version=2)) == Changes(groups={"db"}, reports={"db"})
    assert "kubecarp-key-db" not in cache.world.secrets
