"""Looking after a workspace: `prune.py` makes room in its store."""
