"""One process from its socket to its end, several of them, and the change from one version to the next."""
