"""`python -m stillfresh.cli` is `stillfresh`."""

from stillfresh.cli.main import main

main()
