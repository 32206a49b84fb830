"""Where kopf meets the plan: events fill the cache, the reconciler loads, plans and applies."""
