"""The API of kubecarp as code: names, schemas, and the objects as typed values. Knows neither kopf nor an API server."""
