"""``kubectl carp``: what a person asks and orders. Knows clusters through ``kube.api`` alone, and no cluster at all for ``render``."""
