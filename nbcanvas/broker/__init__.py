"""Where messages wait: the port, and its adapters."""
