"""Other packages, measured beside ferflow; each in an environment of its own (`make bench-peers`)."""
