"""Where responses are kept: bytes under keys, and nothing of HTTP."""
