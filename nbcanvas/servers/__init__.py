"""Doors to servers: the one module that imports redis, and the one that imports kombu."""
