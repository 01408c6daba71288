"""What stillfresh costs, and what it withstands: `python -m benchmarks --help`."""
