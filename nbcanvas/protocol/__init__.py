"""The wire: how values, and later messages, results and events, look when they travel."""
