"""Tiny databases in their true on-disk form, every trap of the real ones in them; the faces are rectangles."""
