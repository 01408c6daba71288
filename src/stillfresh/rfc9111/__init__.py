"""The law: RFC 9111 as pure functions over frozen values.

Nothing here reads a clock, does I/O or logs. Where a moment matters it is passed in as `now`,
in seconds since the epoch. Each function names its clause.
"""
