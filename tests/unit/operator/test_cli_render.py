"""``kubectl carp render``: the same decisions as the operator's, refusals with file and field, and files that a sidecar runs."""

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from carp_operator.api.group_schema import group_crd
from carp_operator.cli.main import main
from carp_operator.cli.static.schema_check import check, with_defaults
from carp_operator.cli.static.schema_rules import RULES, RULES_ABOUT_CHANGES
from carp_operator.cli.static.toml_writer import to_toml
from carp_protocol.config import Mode, PeerMode, SidecarConfig
from carp_sidecar import source
from lab.manifests import REFUSED_AT_APPLY, Refused

ROOT = Path(__file__).resolve().parents[3]
SCHEMA = group_crd()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
KEY = "ab" * 32
NODES = ["--node", "cp-1=10.0.0.11/24@eth0", "--node", "cp-2=10.0.0.12/24@eth0", "--node", "cp-3=10.0.0.13/24@eth0"]


def manifest(name: str = "control-plane", **spec: Any) -> dict[str, Any]:
    spec = {"addresses": ["10.0.0.10/24"], "vhid": 250} | spec
    return {"apiVersion": "kubecarp.io/v1alpha1", "kind": "CarpGroup", "metadata": {"name": name}, "spec": spec}


class Kitchen:
    """A folder with manifests, and the command."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder = folder
        self._capsys = capsys

    def write(self, *objects: Any, name: str = "carpgroup.yaml") -> str:
        path = self.folder / name
        path.write_text(yaml.safe_dump_all(objects))
        return str(path)

    def run(self, *argv: str) -> tuple[int, str, str]:
        code = main(["render", *argv])
        captured = self._capsys.readouterr()
        return code, captured.out, captured.err

    def one(self, node: str, *objects: Any, more: tuple[str, ...] = ()) -> dict[str, Any]:
        """The configuration of a node."""
        code, out, _ = self.run("-f", self.write(*objects), *(more or NODES), "--for", node)
        assert code == 0
        return tomllib.loads(out)

    def refusal(self, *objects: Any, more: tuple[str, ...] = ()) -> list[str]:
        code, out, err = self.run("-f", self.write(*objects), *(more or NODES))
        assert (code, out) == (2, "")
        return err.replace(str(self.folder / "carpgroup.yaml"), "FILE").splitlines()

    def load(self, path: Path) -> SidecarConfig:
        """The file as `carp-sidecar check` reads it on a node, with a key in the place that it names."""
        key = self.folder / "key"
        key.write_text(KEY)
        key.chmod(0o600)
        path.write_text(path.read_text().replace("/etc/kubecarp/key", str(key)))
        return source.load(str(path))


@pytest.fixture
def kitchen(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Kitchen:
    return Kitchen(tmp_path, capsys)


# ---- what comes out -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("language", ["toml", "json"])
def test_files_load_in_a_sidecar(kitchen: Kitchen, language: str) -> None:
    everything = manifest(
        priorities=[{"node": "cp-2", "priority": 200}],
        preemption={"enabled": True, "delay": "10s"},
        advertisementInterval="200ms",
        virtualMAC=False,
        healthChecks=[{"name": "api", "httpGet": {"port": 6443, "scheme": "HTTPS", "path": "/livez"}, "periodSeconds": 2}],
        suspicion=False,
    )
    code, out, err = kitchen.run("-f", kitchen.write(everything), *NODES, "-o", str(kitchen.folder / "out"), "--format", language)
    assert (code, err) == (0, "")
    assert "carp-sidecar key > /etc/kubecarp/key" in out
    configs = {name: kitchen.load(kitchen.folder / "out" / name / f"sidecar.{language}") for name in ("cp-1", "cp-2", "cp-3")}
    (group,) = configs["cp-2"].groups
    assert (group.vhid, group.priority, group.advertisement_interval_s, group.virtual_mac, group.suspicion) == (250, 200, 0.2, False, False)
    assert group.preemption.enabled
    assert (group.health_checks[0].period_s, group.health_checks[0].timeout_s) == (2, 1)
    assert (configs["cp-1"].node, configs["cp-1"].state_dir) == ("cp-1", "/var/lib/kubecarp-static")
    assert len({config.groups[0].advskew for config in configs.values()}) == 3


def test_keys_never_appear_only_their_file(kitchen: Kitchen) -> None:
    document = kitchen.one("cp-1", manifest())
    assert document["group"][0]["authentication"] == {"mode": "Strict", "key_file": "/etc/kubecarp/key"}


def test_defaults_keep_out_of_the_way_of_the_node_pods(kitchen: Kitchen) -> None:
    document, pods = kitchen.one("cp-1", manifest()), SidecarConfig()
    assert not {document["state_dir"], document["metrics_address"], document["probe_port"]} & {
        pods.state_dir,
        pods.metrics_address,
        pods.probe_port,
    }


def test_unicast_peers_are_the_other_nodes(kitchen: Kitchen) -> None:
    document = kitchen.one("cp-2", manifest(peers={"mode": "Unicast"}))
    assert document["group"][0]["peers"] == {"mode": PeerMode.UNICAST.value, "addresses": ["10.0.0.11", "10.0.0.13"]}


def test_vhids_go_by_the_order_of_the_manifests_and_are_told(kitchen: Kitchen) -> None:
    first, second = manifest("zebra"), manifest("ant", addresses=["10.0.0.9"])
    del first["spec"]["vhid"], second["spec"]["vhid"]
    code, out, err = kitchen.run("-f", kitchen.write(first, second), *NODES)
    assert code == 0
    assert "note: zebra: got VHID 1; write vhid: 1 into its manifest" in err
    assert "note: ant: got VHID 2;" in err
    assert [line.split()[:3] for line in out.splitlines()[1:3]] == [["cp-1", "ant", "2"], ["cp-1", "zebra", "1"]]


def test_a_group_with_a_secret_is_explained(kitchen: Kitchen) -> None:
    code, _, err = kitchen.run("-f", kitchen.write(manifest(authentication={"secretRef": {"name": "mine"}})), *NODES)
    assert code == 0
    assert err == "note: control-plane: there are no Secrets without a cluster; what would be in mine belongs into the key file\n"


def test_groups_of_both_modes_need_two_key_files(kitchen: Kitchen) -> None:
    both = manifest(), manifest("old", addresses=["10.0.0.9"], vhid=7, authentication={"mode": "Compatible"})
    sentence = "/etc/kubecarp/key cannot hold the key of a Strict and the password of a Compatible group; add --key-file old=FILE"
    assert kitchen.refusal(*both)[0] == f"FILE: CarpGroup old: {sentence}"
    groups = {one["name"]: one for one in kitchen.one("cp-1", *both, more=(*NODES, "--key-file", "old=/etc/kubecarp/old"))["group"]}
    assert groups["old"]["authentication"] == {"mode": "Compatible", "dialect": "Common", "key_file": "/etc/kubecarp/old"}
    assert groups["control-plane"]["authentication"]["key_file"] == "/etc/kubecarp/key"


def test_the_static_pod_runs_what_was_rendered(kitchen: Kitchen) -> None:
    argv = ["--static-pod", "--image", "registry/kubecarp:1", "--key-file", "/etc/keys/carp", "-o", str(kitchen.folder / "out")]
    code, out, _ = kitchen.run("-f", kitchen.write(manifest()), *NODES, *argv)
    assert code == 0
    assert "install -D -m 600 kubecarp.yaml /etc/kubernetes/manifests/kubecarp.yaml" in out
    pod = yaml.safe_load((kitchen.folder / "out/cp-1/kubecarp.yaml").read_text())
    document = tomllib.loads((kitchen.folder / "out/cp-1/sidecar.toml").read_text())
    spec, container = pod["spec"], pod["spec"]["containers"][0]
    assert (spec["hostNetwork"], spec["shareProcessNamespace"]) == (True, True)
    assert container["image"] == "registry/kubecarp:1"
    assert container["args"] == ["--config=/etc/kubecarp/sidecar.toml"]
    mounted = {
        mount["mountPath"]: next(one for one in spec["volumes"] if one["name"] == mount["name"]) for mount in container["volumeMounts"]
    }
    assert mounted.keys() == {"/etc/kubecarp", "/etc/keys", document["state_dir"], "/run/kubecarp"}
    assert all(one.get("hostPath", {"path": path})["path"] == path for path, one in mounted.items())
    assert f"127.0.0.1:{container['livenessProbe']['httpGet']['port']}" == document["metrics_address"]


def test_the_static_pod_is_the_node_pod_without_an_agent(kitchen: Kitchen) -> None:
    kitchen.run("-f", kitchen.write(manifest()), *NODES, "--static-pod", "-o", str(kitchen.folder / "out"))
    container = yaml.safe_load((kitchen.folder / "out/cp-1/kubecarp.yaml").read_text())["spec"]["containers"][0]
    template = (ROOT / "charts/kubecarp/templates/node-daemonset.yaml").read_text()
    for line in (
        "drop: [ALL]",
        "add: [NET_ADMIN, NET_RAW]",
        "runAsUser: 0",
        "readOnlyRootFilesystem: true",
        "allowPrivilegeEscalation: false",
    ):
        assert line in template
    assert container["securityContext"] == {
        "runAsUser": 0,
        "runAsGroup": 0,
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"], "add": ["NET_ADMIN", "NET_RAW"]},
        "readOnlyRootFilesystem": True,
    }
    assert container["command"] == ["carp-sidecar", "run"]


def test_nothing_of_a_cluster_is_loaded(kitchen: Kitchen) -> None:
    program = (
        "import sys\nfrom carp_operator.cli.main import main\ncode = main(sys.argv[1:])\n"
        "assert code == 0\nassert not {'kubernetes', 'kopf', 'aiohttp'} & sys.modules.keys()"
    )
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(str(ROOT / folder) for folder in ("operator", "sidecar"))}
    argv = [sys.executable, "-c", program, "render", "-f", kitchen.write(manifest()), *NODES]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False, env=environment)
    assert done.returncode == 0, done.stderr


# ---- nodes ----------------------------------------------------------------------------------------------------


def test_nodes_from_a_file_of_node_objects(kitchen: Kitchen) -> None:
    def node(number: int, role: str) -> dict[str, Any]:
        addresses = [{"type": "InternalIP", "address": f"10.0.0.{number}"}]
        return {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": f"n{number}", "labels": {"role": role}},
            "status": {"addresses": addresses},
        }

    path = kitchen.write(
        {"apiVersion": "v1", "kind": "List", "items": [node(1, "cp"), node(2, "worker"), node(3, "cp")]}, name="nodes.yaml"
    )
    groups = manifest(nodeSelector={"matchLabels": {"role": "cp"}})
    code, out, err = kitchen.run("-f", kitchen.write(groups), "--node-file", path)
    assert code == 0
    assert [line.split()[0] for line in out.splitlines()[1:3]] == ["n1", "n3"]
    assert "note: control-plane: n2 is no member: not selected by nodeSelector" in err


def test_nodes_from_a_short_file_join_those_of_the_command(kitchen: Kitchen) -> None:
    path = kitchen.write(
        {"name": "cp-1", "addresses": ["10.0.0.11/24@eth0"], "labels": {"rack": 7}},
        {"name": "cp-2", "addresses": "10.0.0.12"},
        name="n.yaml",
    )
    groups = manifest(interface={"pattern": "^eth"}, nodeSelector={"matchExpressions": [{"key": "rack", "operator": "Exists"}]})
    assert (
        kitchen.one("cp-1", groups, more=("--node-file", path, "--node", "cp-1=192.168.1.1/24@eth1"))["group"][0]["interface_pattern"]
        == "^eth"
    )


def test_a_node_without_prefix_has_that_of_the_group(kitchen: Kitchen) -> None:
    wide = manifest(addresses=["10.0.255.10/16"])
    assert kitchen.one("a", wide, more=("--node", "a=10.0.0.1", "--node", "b=10.0.9.1"))["group"]
    bare = kitchen.refusal(manifest(addresses=["10.0.255.10"]), more=("--node", "a=10.0.0.1"))
    assert "InterfaceNotFound" in bare[-2]
    assert bare[-2].endswith("the prefix lengths of the nodes' addresses count: --node NAME=ADDRESS/PREFIX")


def test_a_node_without_interface_may_have_any_name_but_fits_no_pattern(kitchen: Kitchen) -> None:
    unnamed = ("--node", "a=10.0.0.1/24", "--node", "b=10.0.0.2/24")
    assert kitchen.one("a", manifest(interface={"name": "vmx0"}), more=unnamed)["group"][0]["interface"] == "vmx0"
    assert "name the interfaces of the nodes" in kitchen.refusal(manifest(interface={"pattern": "^en"}), more=unnamed)[-2]


@pytest.mark.parametrize(
    "node, sentence",
    [
        ("cp-1", "is no node"),
        ("CP=10.0.0.1", "is no node"),
        ("a=ten", "'ten' is not an IP address"),
        ("a=10.0.0.1/99", "is not an IP address"),
        ("a=10.0.0.1@", "cannot be the name of an interface"),
        ("a=10.0.0.1/24@averyveryverylongname", "cannot be the name of an interface"),
    ],
)
def test_a_node_that_is_none(kitchen: Kitchen, node: str, sentence: str) -> None:
    code, _, err = kitchen.run("-f", kitchen.write(manifest()), "--node", node)
    assert code == 2
    assert sentence in err
    assert "NAME=ADDRESS/PREFIX@INTERFACE" in err


def test_two_nodes_with_one_address(kitchen: Kitchen) -> None:
    assert kitchen.refusal(manifest(), more=("--node", "a=10.0.0.1", "--node", "b=10.0.0.1"))[0].endswith(
        "10.0.0.1 is an address of a too; every node has its own"
    )


# ---- what is refused ------------------------------------------------------------------------------------------


def test_every_rule_of_the_schema_is_known_here() -> None:
    def messages(schema: Any) -> set[str]:
        if isinstance(schema, dict):
            own = {rule["message"] for rule in schema.get("x-kubernetes-validations") or ()}
            return own.union(*(messages(part) for part in schema.values()))
        return set[str]().union(*map(messages, schema)) if isinstance(schema, list) else set()

    spec = {**SCHEMA, "properties": {key: value for key, value in SCHEMA["properties"].items() if key != "status"}}
    assert messages(spec) == RULES.keys() | RULES_ABOUT_CHANGES


CHECKED = {"name": "x", "tcpSocket": {"port": 1}}


@pytest.mark.parametrize(
    "spec, sentence",
    [
        ({"adresses": []}, "spec.adresses: unknown field; did you mean addresses?"),
        ({"virtualMac": True}, "spec.virtualMac: unknown field; did you mean virtualMAC?"),
        ({"addresses": []}, "spec.addresses: has 0 entries; give 1 to 32"),
        ({"addresses": "10.0.0.10"}, "spec.addresses: is text; give a list"),
        ({"addresses": ["10.0.0.10/33"]}, "spec.addresses[0]: not an IP address; write it as 192.0.2.10, 192.0.2.10/24 or 2001:db8::10/64"),
        (
            {"addresses": ["224.0.0.1"]},
            "spec.addresses[0]: a multicast, loopback, broadcast or unspecified address cannot be a virtual address",
        ),
        ({"addresses": ["10.0.0.10", "10.0.0.10/24"]}, "spec.addresses: an address is listed twice; remove one"),
        ({"vhid": 300}, "spec.vhid: is 300; give a whole number from 1 to 255"),
        ({"vhid": "1"}, "spec.vhid: is text; give a whole number"),
        ({"vhid": True}, "spec.vhid: is true or false; give a whole number"),
        ({"virtualMAC": "yes"}, "spec.virtualMAC: is text; give true or false"),
        ({"interface": {}}, "spec.interface: give exactly one of name and pattern"),
        ({"interface": {"name": "a/b"}}, r"spec.interface.name: is 'a/b', which does not have the form ^[^\s/]{1,15}$"),
        ({"nodeSelector": {"matchLabels": {"a": 1}}}, "spec.nodeSelector.matchLabels.a: is a number; give text"),
        (
            {"nodeSelector": {"matchExpressions": [{"key": "a", "operator": "In"}]}},
            "spec.nodeSelector.matchExpressions[0]: In and NotIn need values; Exists and DoesNotExist take none",
        ),
        ({"priorities": [{"node": "a"}]}, "spec.priorities[0].priority: is missing"),
        (
            {"priorities": [{"node": "a", "priority": 1}, {"node": "b", "priority": 1}]},
            "spec.priorities: two nodes have the same priority; give each its own, so that they never take over at the same moment",
        ),
        ({"priorities": [{"node": "a", "priority": 1}] * 2}, "spec.priorities[1]: a is listed before; remove one of the two"),
        ({"authentication": {"mode": "strict"}}, "spec.authentication.mode: is 'strict'; give one of Strict, Compatible"),
        (
            {"authentication": {"dialect": "OpenBSD"}},
            "spec.authentication: only Compatible mode has dialects; remove dialect or set mode: Compatible",
        ),
        ({"advertisementInterval": "1"}, "spec.advertisementInterval: is '1', which does not have the form"),
        ({"advertisementInterval": "1ms"}, "spec: advertisementInterval is outside 10ms to 60s, the range of Strict mode"),
        (
            {"advertisementInterval": "1500ms", "authentication": {"mode": "Compatible"}},
            "spec: Compatible mode knows whole seconds from 1s to 254s only; use Strict mode for others",
        ),
        ({"healthChecks": [{"name": "x"}]}, "spec.healthChecks[0]: give exactly one of httpGet, tcpSocket and exec"),
        ({"healthChecks": [CHECKED, CHECKED]}, "spec.healthChecks[1]: x is listed before; remove one of the two"),
        ({"preemption": None}, "spec.preemption: is empty; give a table of fields"),
        ({"onCordon": "Stay"}, "spec.onCordon: is 'Stay'; give one of HandOver, Keep"),
    ],
)
def test_what_an_api_server_would_refuse_is_refused_with_file_and_field(kitchen: Kitchen, spec: dict[str, Any], sentence: str) -> None:
    first, *_, last = kitchen.refusal(manifest(**spec))
    assert first.startswith(f"FILE: CarpGroup control-plane: {sentence}")
    assert last.endswith("; nothing was written")


@pytest.mark.parametrize(
    "objects, sentence",
    [
        ([manifest(addresses=["10.0.0.11"])], "NodeAddress: 10.0.0.11 is the own address of node cp-1"),
        ([manifest(), manifest("two", vhid=7)], "AddressConflict: 10.0.0.10 belongs to CarpGroup control-plane"),
        ([manifest(), manifest("two", addresses=["10.0.0.9"])], "VhidConflict: VHID 250 belongs to CarpGroup control-plane"),
        ([manifest(interface={"name": "eth7"})], "InterfaceNotFound: no node can be a member: 3 nodes without an interface eth7"),
        ([manifest(nodeSelector={"matchLabels": {"a": "b"}})], "NoEligibleNode: "),
        ([manifest(), manifest()], "is in FILE already"),
    ],
)
def test_what_the_operator_would_refuse_is_refused(kitchen: Kitchen, objects: list[Any], sentence: str) -> None:
    assert sentence in kitchen.refusal(*objects)[-2]


@pytest.mark.parametrize(
    "text, sentence",
    [
        ("a: [", "line 1: "),
        ("a: 1\na: 2", "line 2: a is written twice"),
        ("a: 1\nb: {{ c }}", "line 2: a list or a table cannot be a key; a {{ template }} has to be filled in first"),
        ("? [a]\n: b", "line 1: a list or a table cannot be a key"),
        ("- 1", "holds something that is not an object"),
        ("kind: CarpGroup", "apiVersion is None; write kubecarp.io/v1alpha1"),
        ("{apiVersion: kubecarp.io/v1alpha1, kind: CarpGroup, metadata: {}}", "metadata.name is missing"),
        ("{apiVersion: kubecarp.io/v1alpha1, kind: CarpGroup, metadata: {name: a}}", "spec: is missing"),
        ("a: \x01", "is not valid YAML"),
    ],
)
def test_files_that_are_no_manifests(kitchen: Kitchen, text: str, sentence: str) -> None:
    path = kitchen.folder / "bad.yaml"
    path.write_text(text)
    code, out, err = kitchen.run("-f", str(path), *NODES)
    assert (code, out) == (2, "")
    assert f"{path}" in err
    assert sentence in err


@pytest.mark.parametrize(
    "argv, code, sentence",
    [
        (["-f", "/nowhere"], 1, "/nowhere cannot be read: No such file or directory; give the right path"),
        (["-f", "GROUP", "--for", "cp-9"], 1, "there is no node cp-9; did you mean"),
        (["-f", "GROUP", "--for", "cp-1", "-o", "x"], 2, "give one of them"),
        (["-f", "GROUP", "--static-pod"], 2, "--static-pod writes files: add -o DIR"),
        (["-f", "GROUP", "--key-file", "key"], 2, "give the absolute path"),
        (["-f", "GROUP", "--key-file", "x=/key"], 2, "--key-file: there is no group x"),
        (["-f", "GROUP", "--state-dir", "x"], 2, "give an absolute path"),
        (["-f", "GROUP", "-o", "/proc/x"], 1, "cannot be written"),
        (["-f", "GROUP", "--metrics-address", "nonsense"], 2, "'nonsense' is not HOST:PORT"),
        (["-f", "EMPTY"], 1, "holds no file that ends in"),
    ],
)
def test_wrong_usage(kitchen: Kitchen, argv: list[str], code: int, sentence: str) -> None:
    (kitchen.folder / "empty").mkdir()
    names = {"GROUP": kitchen.write(manifest()), "EMPTY": str(kitchen.folder / "empty")}
    got, _, err = kitchen.run(*(names.get(word, word) for word in argv), *NODES)
    assert (got, sentence in err) == (code, True), err


def test_nodes_are_needed(kitchen: Kitchen) -> None:
    assert "name the nodes" in kitchen.run("-f", kitchen.write(manifest()))[2]


def test_other_objects_in_the_files_are_skipped_aloud(kitchen: Kitchen) -> None:
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"}}
    path = kitchen.write(service, manifest())
    assert kitchen.run("-f", str(kitchen.folder), *NODES)[::2] == (0, f"note: skipped {path}: Service web\n")
    assert kitchen.run("-f", kitchen.write(service), *NODES)[0] == 1


# ---- schema and TOML by themselves ----------------------------------------------------------------------------


def test_defaults_are_filled_in_at_every_depth() -> None:
    spec = with_defaults(SCHEMA["properties"]["spec"], {"addresses": ["10.0.0.1"], "healthChecks": [{"name": "x", "httpGet": {"port": 1}}]})
    assert spec["authentication"] == {"mode": "Strict"}
    assert spec["healthChecks"][0]["httpGet"]["path"] == "/"
    assert check(SCHEMA["properties"]["spec"], spec) == []
    assert Mode(spec["authentication"]["mode"]) is Mode.STRICT


_TEXTS = st.text(st.characters(codec="utf-8"), max_size=20)
_SCALARS = st.booleans() | st.integers(-(2**53), 2**53) | _TEXTS
_VALUES = st.recursive(
    _SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(min_size=1, max_size=8), inner, max_size=3), max_leaves=8
)


@given(st.dictionaries(_TEXTS, _VALUES, max_size=4))
def test_toml_reads_back_as_it_was(document: dict[str, Any]) -> None:
    assert tomllib.loads(to_toml(document)) == json.loads(json.dumps(document))


@pytest.mark.parametrize("case", REFUSED_AT_APPLY, ids=lambda case: case.title)
def test_what_a_real_api_server_refuses_is_refused_here(kitchen: Kitchen, case: Refused) -> None:
    assert kitchen.refusal(manifest(case.name) | {"spec": case.spec})


def test_the_example_for_kubeadm_renders_and_its_drop_in_has_the_state_directory(kitchen: Kitchen) -> None:
    folder = ROOT / "examples" / "kubeadm"
    argv = [
        "-f",
        str(folder / "carpgroup.yaml"),
        "--node-file",
        str(folder / "nodes.yaml"),
        "--static-pod",
        "-o",
        str(kitchen.folder / "out"),
    ]
    assert kitchen.run(*argv)[::2] == (0, "")
    config = kitchen.load(kitchen.folder / "out/cp-2/sidecar.toml")
    assert [(group.name, group.vhid) for group in config.groups] == [("control-plane", 250)]
    assert f"\nStateDirectory={Path(config.state_dir).name}\n" in (folder / "static.conf").read_text()
