"""Databases of clips: read files on disk, write a manifest, make a subject-disjoint split."""
