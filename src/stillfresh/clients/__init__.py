"""One module for each client library; none is imported unless its user does so."""
