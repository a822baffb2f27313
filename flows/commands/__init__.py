"""The commands of `ferflow`, one file a subject; `session.py` is what they all share."""
