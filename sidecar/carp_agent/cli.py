"""The command line: what it accepts, what --help says, and exit codes."""

from __future__ import annotations

__all__ = ["build_parser", "main"]

import argparse
import gc
import os
import re
import signal
import sys
import threading

from carp_agent import __version__
from carp_agent.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from carp_agent.agent import Options

_PROGRAM = "carp-agent"
_ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"
_DEFAULT_CONFIG = "/var/lib/kubecarp/agent/sidecar.json"
_DEFAULT_CONTROL_SOCKET = "/run/kubecarp/control.sock"
"""As in ``carp_protocol.config``, which costs 3 MB to import; a test holds them together."""
_GONE_AFTER_S = 30.0
"""Longer than an operator takes to put a deleted CarpNode back, also when another one has to become leader first (15 s)."""
_FAILED, _UNUSABLE = 1, 2
_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")
_WIDTH = 110
"""Of the help; to ask the terminal costs 1 MB of imports."""

_DESCRIPTION = """\
The sidecar's link to Kubernetes. Watches the CarpNode of its node, writes the
configuration of carp-sidecar, has it read, and reports into the status of the
CarpNode what the sidecar does.

While the API server cannot be reached nothing changes: the sidecar goes on with
what it has, and starts from the file. What happens meanwhile is reported later.
The sidecar is never stopped or restarted by the agent."""

_EPILOG = f"""\
exit codes:
  0    stopped by SIGTERM or SIGINT
  1    an internal error; its log says more
  2    bad usage: no node name, no API server

files:
  {_DEFAULT_CONFIG:<38} what the sidecar runs, with its keys (mode 0640)
  {_DEFAULT_CONTROL_SOCKET:<38} the sidecar's control socket
  {_ACCOUNT + "/":<38}
    token, ca.crt, namespace             read again whenever they are needed

environment:
  NODE_NAME                              the node, if --node is not given
  KUBERNETES_SERVICE_HOST, _PORT         the API server, if --server is not given

endpoints (--metrics-address):
  /healthz   200 while the agent works, whatever the API server does
  /readyz    200 while the sidecar answers
  /metrics   Prometheus text: requests by code, reports, configurations

examples:
  carp-agent run --node router-002
  carp-agent run --node a --server https://10.77.0.250:6443 --token-file token --ca-file ca.crt \\
      --namespace kubecarp-system --config sidecar.json --control-socket control.sock"""


def build_parser() -> argparse.ArgumentParser:
    """The parser."""
    parser = argparse.ArgumentParser(_PROGRAM, description=_DESCRIPTION, epilog=_EPILOG, formatter_class=_Formatter)
    parser.add_argument("--version", action="version", version=f"{_PROGRAM} {__version__}")
    commands = parser.add_subparsers(prog=_PROGRAM, dest="command", metavar="COMMAND", required=True, title="commands")
    run = commands.add_parser(
        "run",
        help="run the agent in the foreground",
        description="Runs the agent until SIGTERM or SIGINT. Needs no capability: it is a member of the group that\n"
        "`carp-sidecar run --agent-group` names.",
        formatter_class=_Formatter,
    )
    _add_arguments(run)
    return parser


class _Formatter(argparse.RawDescriptionHelpFormatter):
    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=32, width=_WIDTH)


def _add_arguments(run: argparse.ArgumentParser) -> None:
    node = run.add_argument_group("node")
    node.add_argument("--node", metavar="NAME", default=os.environ.get("NODE_NAME", ""), help="the node (default: $NODE_NAME)")
    node.add_argument(
        "-c", "--config", metavar="FILE", default=_DEFAULT_CONFIG, help=f"the sidecar's configuration (default: {_DEFAULT_CONFIG})"
    )
    text = f"the sidecar's control socket (default: {_DEFAULT_CONTROL_SOCKET})"
    node.add_argument("-s", "--control-socket", metavar="PATH", default=_DEFAULT_CONTROL_SOCKET, help=text)
    text = "how long the CarpNode must be gone before the sidecar runs no group any more (default: %(default)g)"
    node.add_argument("--gone-after", metavar="SECONDS", type=_seconds, default=_GONE_AFTER_S, help=text)
    api = run.add_argument_group("API server", "Inside a Pod nothing of this is needed.")
    api.add_argument("--server", metavar="URL", default="", help="https://HOST:PORT")
    api.add_argument("--token-file", metavar="FILE", default=f"{_ACCOUNT}/token", help="a bearer token, read for every request")
    api.add_argument(
        "--ca-file", metavar="FILE", default=f"{_ACCOUNT}/ca.crt", help="the certificates to believe, read again when they change"
    )
    api.add_argument("--namespace", metavar="NAME", default="", help="where the operator keeps the keys (default: that of the Pod)")
    told = run.add_argument_group("observability")
    text = "HOST:PORT of the agent's endpoints; empty: none (default: %(default)s)"
    told.add_argument("--metrics-address", metavar="ADDRESS", default="127.0.0.1:9121", help=text)
    told.add_argument("--log-level", choices=("debug", "info", "warning", "error"), default="info", help="(default: info)")
    passed = run.add_argument_group("passed on to the sidecar")
    text = "HOST:PORT of the sidecar's endpoints; empty: none (default: %(default)s)"
    passed.add_argument("--sidecar-metrics-address", metavar="ADDRESS", default="127.0.0.1:9120", help=text)
    text = "UDP port on which sidecars ask each other whether they live; 0: none (default: %(default)s)"
    passed.add_argument("--sidecar-probe-port", metavar="PORT", type=_port, default=9112, help=text)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= 86_400:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds up to 86400")
    return seconds


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit()) or int(text) > 65_535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port")
    return int(text)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit code."""
    arguments = build_parser().parse_args(argv)
    try:
        return _run(arguments)
    except UsageError as error:
        sys.stderr.write(f"{_PROGRAM}: {error}\n")
        return _UNUSABLE


def _run(arguments: argparse.Namespace) -> int:
    from carp_agent.agent import Agent
    from carp_agent.endpoints import Endpoints
    from carp_agent.logs import Log

    log = Log(arguments.log_level)
    agent = Agent(_options(arguments), log)
    if arguments.metrics_address:
        agent.serve(Endpoints(arguments.metrics_address, agent.stats, log))
    for number in (signal.SIGTERM, signal.SIGINT):
        # In a thread of its own: a handler interrupts the loop anywhere, also where it holds what ``stop`` needs.
        signal.signal(number, lambda *_: threading.Thread(target=agent.stop, daemon=True).start())
    gc.collect()
    gc.freeze()
    try:
        return agent.run()
    except Exception as error:  # noqa: BLE001  a defect: said in the log's own shape, and the container starts anew
        log.crash("the loop", error)
        return _FAILED


def _options(arguments: argparse.Namespace) -> Options:
    """Raises UsageError."""
    from carp_agent.agent import Options
    from carp_agent.document import Settings
    from carp_agent.kubeapi import Server

    if not _NAME.fullmatch(arguments.node):
        raise UsageError(f"{arguments.node!r} is not the name of a node; give --node, or NODE_NAME in the environment")
    own_socket = arguments.control_socket if arguments.control_socket != _DEFAULT_CONTROL_SOCKET else ""
    settings = Settings(
        arguments.node,
        metrics_address=arguments.sidecar_metrics_address,
        probe_port=arguments.sidecar_probe_port,
        control_socket=os.path.abspath(own_socket) if own_socket else "",  # noqa: PTH100  pathlib costs memory
    )
    return Options(
        Server(arguments.server or _server_of_the_pod(), token_file=arguments.token_file, ca_file=arguments.ca_file),
        settings,
        namespace=_namespace(arguments.namespace),
        config=arguments.config,
        control_socket=arguments.control_socket,
        gone_after_s=arguments.gone_after,
    )


def _server_of_the_pod() -> str:
    host, port = os.environ.get("KUBERNETES_SERVICE_HOST", ""), os.environ.get("KUBERNETES_SERVICE_PORT", "443")
    if not host:
        raise UsageError("this is no Pod (KUBERNETES_SERVICE_HOST is not set); give --server, --token-file, --ca-file and --namespace")
    return f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"


def _namespace(given: str) -> str:
    if not given:
        try:
            with open(f"{_ACCOUNT}/namespace", encoding="ascii") as file:
                given = file.read(254).strip()
        except (OSError, ValueError) as error:
            raise UsageError("the namespace of the keys is not known; give --namespace") from error
    if not _NAME.fullmatch(given):
        raise UsageError(f"{given!r} is not the name of a namespace")
    return given
