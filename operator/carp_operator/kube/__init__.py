"""Adapters to the API server: the only place that imports the ``kubernetes`` package."""
