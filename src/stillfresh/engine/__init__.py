"""The engine: takes the law and a cache, and answers one request."""
