"""The worker of a cluster."""
