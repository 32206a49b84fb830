"""The Kubernetes operator of kubecarp: reconciles CarpGroups into what every node runs, and tells users what the wire says."""

__version__ = "0.1.0"
