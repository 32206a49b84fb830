"""The decisions of the operator: what is seen goes in, what should be comes out. No clock, no IO, no Kubernetes client."""
