"""Both definitions as YAML, for the chart and for ``kubectl apply``: generated, so that code, chart and documentation agree."""

__all__ = ["crds_yaml"]

import yaml

from .group_schema import group_crd
from .node_schema import node_crd

_FILES = {"carpgroups.yaml": group_crd, "carpnodes.yaml": node_crd}


def crds_yaml() -> dict[str, str]:
    """Text of the definitions by file name."""
    return {name: yaml.safe_dump(crd(), sort_keys=False, allow_unicode=True, width=120) for name, crd in _FILES.items()}
