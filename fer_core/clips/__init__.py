"""What we have: files on disk -> clips, a manifest of them, and a subject-disjoint split."""
