"""Where results are kept: the port, and its adapters."""
