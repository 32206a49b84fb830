"""Entry point of ``carp-operator`` and ``python -m carp_operator``: the command line of the operator."""

__all__ = ["main"]

import os
import sys
from pathlib import Path

import click

from carp_operator import __version__

_NAMESPACE_FILE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
_DEFAULT_NAMESPACE = "kubecarp-system"


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.version_option(__version__, prog_name="carp-operator")
def main() -> None:
    """Turns CarpGroup objects into what every node runs, and what the nodes report into their status.

    `run` is the operator. It may be down for a day without any change for the addresses: the nodes elect their masters among themselves.
    """


def _namespace() -> str:
    """Where the operator is installed."""
    try:
        return _NAMESPACE_FILE.read_text().strip()
    except OSError:
        return _DEFAULT_NAMESPACE


@main.command()
@click.option(
    "--namespace",
    default=_namespace,
    metavar="NAME",
    help="Where Secrets and the lease are (default: the pod's own, else kubecarp-system).",
)
@click.option(
    "--vhid-range",
    default="1-255",
    metavar="FIRST-LAST",
    help="VHIDs to allocate from, where several clusters share a network (default: 1-255).",
)
@click.option(
    "--metrics-address", default="", metavar="HOST:PORT", help="Where /metrics, /healthz and /readyz are served; empty: nowhere (default)."
)
@click.option("--leader-election/--no-leader-election", default=True, help="Act only while holding the lease (default).")
@click.option(
    "--log-format", type=click.Choice(["auto", "json", "text"]), default="auto", help="auto: text on a terminal, else json (default)."
)
@click.option(
    "--log-level", type=click.Choice(["debug", "info", "warning", "error"]), default="info", help="Least severity to log (default: info)."
)
@click.option("--kubeconfig", default=None, metavar="FILE", help="Outside a pod: the cluster to use (default: $KUBECONFIG).")
def run(
    namespace: str, vhid_range: str, metrics_address: str, leader_election: bool, log_format: str, log_level: str, kubeconfig: str | None
) -> None:
    """Runs the operator until SIGTERM or SIGINT."""
    import asyncio

    from carp_operator import logs, program
    from carp_operator.api.errors import OperatorError
    from carp_operator.kube.api import Api

    first, last = _parse_range(vhid_range)
    logs.configure(log_format, log_level)
    if kubeconfig:
        os.environ["KUBECONFIG"] = kubeconfig  # kopf's watches read it too
    settings = program.Settings(
        namespace=namespace, first_vhid=first, last_vhid=last, metrics_address=metrics_address, leader_election=leader_election
    )
    try:
        sys.exit(asyncio.run(program.run(settings, Api(kubeconfig))))
    except OperatorError as error:
        raise click.ClickException(str(error)) from error


def _parse_range(text: str) -> tuple[int, int]:
    first, _, last = text.partition("-")
    if not (first.isdigit() and last.isdigit() and 1 <= int(first) <= int(last) <= 255):
        raise click.BadParameter(f"{text!r} is not a range of VHIDs; write it as 1-255 or 128-255", param_hint="--vhid-range")
    return int(first), int(last)


@main.command()
@click.option(
    "--directory",
    type=click.Path(path_type=Path, file_okay=False),
    default=None,
    metavar="DIR",
    help="Write one file each instead of printing both.",
)
def crds(directory: Path | None) -> None:
    """Prints the CustomResourceDefinitions, ready for `kubectl apply --server-side -f -`."""
    from carp_operator.api.crds import crds_yaml

    texts = crds_yaml()
    if directory is None:
        click.echo("---\n".join(texts.values()), nl=False)
        return
    directory.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        (directory / name).write_text(text)


if __name__ == "__main__":
    main(prog_name="carp-operator")
