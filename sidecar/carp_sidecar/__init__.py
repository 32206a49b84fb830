"""The IO shell around carp_protocol: sockets, netlink, clocks and files of a host. It knows nothing of Kubernetes."""

__all__ = ["__version__"]

__version__ = "0.1.0"
