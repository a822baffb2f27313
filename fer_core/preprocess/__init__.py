"""Clip -> faces (n, 224, 224) uint8: each step of thesis §3.5 a file, `pipeline.py` their order."""
