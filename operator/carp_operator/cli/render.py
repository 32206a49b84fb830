"""``kubectl carp render``: CarpGroup manifests and a list of nodes to configurations of sidecars, without any API server."""

__all__ = ["command"]

import json
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import yaml

from carp_operator import __version__
from carp_operator.api.errors import OperatorError
from carp_protocol.config import Mode
from carp_protocol.errors import ConfigError, Problem

from .screen import Screen, rows
from .session import DONE, UNUSABLE
from .static.configurations import Rendered, StaticSettings, render_static
from .static.manifests import read_documents, read_groups
from .static.node_list import StaticNode, parse_node, read_node_documents
from .static.pod import PodSettings, static_pod
from .static.toml_writer import to_toml
from .words import clean, count, listed, unknown

_CONFIG_FOLDER = "/etc/kubecarp"
_STATE_DIR, _METRICS_ADDRESS, _PROBE_PORT = "/var/lib/kubecarp-static", "127.0.0.1:9123", 9113
"""Not those of the node pods of the chart: both run beside each other on a control plane."""
_POD_FILE = "kubecarp.yaml"
_MANIFEST_FOLDER = "/etc/kubernetes/manifests"

_HELP = f"""Turns CarpGroups and a list of nodes into a configuration for the sidecar of each node. It needs no API server, so that the
address of a control plane can run as a static pod, or as a systemd unit, before the cluster exists. VHIDs, ranks and refusals are those
of the operator; what an API server would refuse is refused here, with file and field.

A node is NAME=ADDRESS[/PREFIX][@INTERFACE], with several addresses separated by commas. Left out, PREFIX is that of a group's subnet that
holds the address, else 24 (IPv6: 64); left out, INTERFACE may be any, and the sidecar on the node finds it. --node-file takes Node
objects (`kubectl get nodes -o yaml`), or short documents with name, addresses and labels, where a group has a nodeSelector.

Keys never appear in what is written: it names --key-file, which you make once and copy to every node. Without -o and --for: shows what
would run.

The defaults of --state-dir, --metrics-address and --probe-port keep out of the way of the chart's node pods, which may run on the same
nodes later. Their VHIDs do not: give static groups a vhid of their own, and keep it out of the chart's `operator.vhidRange`.

\b
files, with -o DIR:
  DIR/NODE/sidecar.toml     for {_CONFIG_FOLDER}/sidecar.toml on NODE
  DIR/NODE/{_POD_FILE}    with --static-pod, for {_MANIFEST_FOLDER} on NODE

\b
examples:
  kubectl carp render -f carpgroup.yaml --node cp-1=10.0.0.11/24 --node cp-2=10.0.0.12/24
  kubectl carp render -f carpgroup.yaml --node-file nodes.yaml --static-pod -o static
  kubectl carp render -f carpgroup.yaml --node-file nodes.yaml --for cp-1 > /etc/kubecarp/sidecar.toml
"""


def _parse_nodes(_context: click.Context, _parameter: click.Parameter, values: Sequence[str]) -> list[StaticNode]:
    try:
        return [parse_node(value) for value in values]
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


@click.command("render", help=_HELP, short_help="configurations for sidecars without a cluster")
@click.option(
    "-f", "--filename", "files", multiple=True, required=True, metavar="FILE", help="manifests: a file, a folder, or - (repeatable)"
)
@click.option(
    "--node", "nodes", multiple=True, metavar="NODE", callback=_parse_nodes, help="a node, such as cp-1=10.0.0.11/24@eth0 (repeatable)"
)
@click.option("--node-file", "node_files", multiple=True, metavar="FILE", help="nodes with their labels (repeatable)")
@click.option(
    "--key-file",
    "key_files",
    multiple=True,
    metavar="[GROUP=]FILE",
    help=f"where the key will be on every node, for all groups or for one (default: {_CONFIG_FOLDER}/key; repeatable)",
)
@click.option(
    "--format", "language", type=click.Choice(["toml", "json"]), default="toml", metavar="FORMAT", help="toml or json (default: toml)"
)
@click.option(
    "-o", "--output", "folder", type=click.Path(path_type=Path, file_okay=False), metavar="DIR", help="write a folder for each node"
)
@click.option("--for", "only", metavar="NODE", help="print the configuration of this node")
@click.option("--static-pod", "pods", is_flag=True, help="write the manifest of a static pod for each node too (with -o)")
@click.option("--image", default=f"kubecarp:{__version__}", metavar="IMAGE", help=f"its image (default: kubecarp:{__version__})")
@click.option("--state-dir", default=_STATE_DIR, metavar="DIR", help=f"where a sidecar keeps its state (default: {_STATE_DIR})")
@click.option("--metrics-address", default=_METRICS_ADDRESS, metavar="HOST:PORT", help=f"of its metrics (default: {_METRICS_ADDRESS})")
@click.option("--probe-port", type=click.IntRange(0, 65535), default=_PROBE_PORT, metavar="PORT", help=f"UDP port (default: {_PROBE_PORT})")
def command(**options: Any) -> int:
    """The command."""
    try:
        return _run(Screen(), **options)
    except ConfigError as error:
        for problem in error.problems:
            click.echo(clean(problem), err=True)
        click.echo(f"{count(len(error.problems), 'problem')}; nothing was written", err=True)
        return UNUSABLE


def _run(
    screen: Screen,
    *,
    files: Sequence[str],
    nodes: Sequence[StaticNode],
    node_files: Sequence[str],
    key_files: Sequence[str],
    language: str,
    folder: Path | None,
    only: str | None,
    pods: bool,
    image: str,
    state_dir: str,
    metrics_address: str,
    probe_port: int,
) -> int:
    if folder and only:
        raise click.UsageError("-o writes the folders of all nodes, --for prints one: give one of them")
    if pods and not folder:
        raise click.UsageError("--static-pod writes files: add -o DIR")
    settings = _settings(key_files, state_dir, metrics_address, probe_port)
    documents = read_documents(files)
    manifests = read_groups(documents)
    if not manifests:
        raise OperatorError(f"there is no CarpGroup in {listed(files)}")
    for document in documents:
        if document.body.get("kind") != "CarpGroup":
            click.echo(f"note: skipped {clean(document.place)}", err=True)
    known = _merged([*nodes, *read_node_documents(read_documents(node_files))])
    rendered = render_static(manifests, known, settings)
    for note in rendered.notes:
        click.echo(f"note: {clean(note)}", err=True)
    if only is not None:
        if only not in rendered.documents:
            raise OperatorError(unknown("node", only, list(rendered.documents)))
        screen.write(_text(rendered.documents[only], language))
    elif folder is None:
        screen.show(rows(("NODE", "GROUP", "VHID", "ADDRESSES", "PRIORITY", "INTERFACE", "MODE", "KEY"), _table(rendered, settings)))
        screen.say("")
        screen.say("add -o DIR to write this, or --for NODE to print the configuration of one node")
    else:
        name = f"sidecar.{language}"
        pod = _pod(rendered, settings, image, f"{_CONFIG_FOLDER}/{name}") if pods else None
        for path in _write(folder, rendered, language, name, pod):
            screen.say(str(path))
        screen.write("".join(f"{line}\n" for line in _next_steps(folder, rendered, name, pods=pods)))
    return DONE


def _settings(key_files: Iterable[str], state_dir: str, metrics_address: str, probe_port: int) -> StaticSettings:
    common, own = f"{_CONFIG_FOLDER}/key", {}
    for text in key_files:
        group, named, path = text.rpartition("=")
        if not path.startswith("/"):
            raise click.BadParameter(f"{text!r}: give the absolute path that the file will have on the nodes", param_hint="--key-file")
        if named:
            own[group] = path
        else:
            common = path
    if not state_dir.startswith("/"):
        raise click.BadParameter(f"{state_dir!r}: give an absolute path", param_hint="--state-dir")
    return StaticSettings(
        key_file=common, key_files=own, state_dir=state_dir.rstrip("/"), metrics_address=metrics_address, probe_port=probe_port
    )


def _merged(nodes: Iterable[StaticNode]) -> list[StaticNode]:
    """Nodes by name; one that is named twice has the addresses and labels of both."""
    found: dict[str, StaticNode] = {}
    holders: dict[str, str] = {}
    for node in nodes:
        for one in node.addresses:
            if (other := holders.setdefault(str(one.address.ip), node.name)) != node.name:
                raise ConfigError([Problem(f"node {node.name}", f"{one.address.ip} is an address of {other} too; every node has its own")])
        before = found.get(node.name)
        addresses = node.addresses if before is None else tuple(dict.fromkeys(before.addresses + node.addresses))
        labels = {**(before.labels if before else {}), **node.labels}
        found[node.name] = StaticNode(name=node.name, addresses=addresses, labels=labels)
    if not found:
        raise click.UsageError("name the nodes: --node NAME=ADDRESS, or --node-file FILE")
    return list(found.values())


# ---- output ---------------------------------------------------------------------------------------------------


def _text(document: Mapping[str, Any], language: str) -> str:
    return to_toml(document) if language == "toml" else json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def _table(rendered: Rendered, settings: StaticSettings) -> Iterator[list[object]]:
    for node, config in rendered.configs.items():
        for group in config.groups:
            interface = group.interface or group.interface_pattern or "by subnet"
            addresses = ",".join(map(str, group.addresses))
            mode = group.authentication.mode.value
            yield [node, group.name, group.vhid, addresses, group.priority, interface, mode, settings.key_of(group.name)]


def _pod(rendered: Rendered, settings: StaticSettings, image: str, config_path: str) -> dict[str, Any]:
    keys = tuple(rendered.key_files)
    return static_pod(
        PodSettings(
            image=image, config_path=config_path, key_paths=keys, state_dir=settings.state_dir, metrics_address=settings.metrics_address
        )
    )


def _write(folder: Path, rendered: Rendered, language: str, name: str, pod: Mapping[str, Any] | None) -> Iterator[Path]:
    """Writes the files, and tells of each; raises OperatorError."""
    try:
        for node, document in rendered.documents.items():
            place = folder / node
            place.mkdir(parents=True, exist_ok=True)
            (place / name).write_text(_text(document, language), encoding="utf-8")
            yield place / name
            if pod is not None:
                (place / _POD_FILE).write_text(yaml.safe_dump(dict(pod), sort_keys=False, width=120), encoding="utf-8")
                yield place / _POD_FILE
    except OSError as error:
        raise OperatorError(f"{error.filename} cannot be written: {error.strerror}") from error


def _next_steps(folder: Path, rendered: Rendered, name: str, *, pods: bool) -> Iterator[str]:
    """What is left to do by hand."""
    shown = shlex.quote(str(folder))
    yield ""
    yield "next:"
    yield "  once: make the key, and copy it to every node"
    for path, mode in rendered.key_files.items():
        made = "carp-sidecar key" if mode is Mode.STRICT else "echo PASSWORD"
        yield f"    (umask 077; {made} > {path})"
    yield f"  on every node, from {shown}/NODE:"
    yield f"    install -D -m 644 {name} {_CONFIG_FOLDER}/{name}"
    yield f"    carp-sidecar check {_CONFIG_FOLDER}/{name}"
    if pods:
        yield f"    install -D -m 600 {_POD_FILE} {_MANIFEST_FOLDER}/{_POD_FILE}"
    else:
        yield "    systemctl enable --now carp-sidecar      (examples/systemd; a drop-in for the state directory is in examples/kubeadm)"
    yield "  read docs/static-mode.md before kubeadm init"
