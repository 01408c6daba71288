"""Other people's caches that ours can stand in for, one module each."""
