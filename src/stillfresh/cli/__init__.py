"""The command `stillfresh`: a thin layer over what any program could call."""
