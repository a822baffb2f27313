"""Clean up a workspace: `prune.py` removes stored files, `forget.py` removes the data of a person."""
