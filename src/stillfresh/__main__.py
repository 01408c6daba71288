"""`python -m stillfresh` is `stillfresh`."""

from stillfresh.cli.main import main

main()
