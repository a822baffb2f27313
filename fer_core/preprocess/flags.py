"""The flags of a clip: words for what is unusual about it. `docs/outputs.md` explains each; a test compares the two."""

from __future__ import annotations

FLAGS = frozenset(
    {
        *("low_quality", "one_frame", "small_face", "not_square", "turned", "several_faces", "tracked_lost"),  # faces
        *("truncated", "decode_errors", "corrupt_frames", "missing_frames", "odd_timestamps"),  # damage of the file
        "strong_compression",
        *("odd_aspect", "hdr", "slanted"),  # form of the picture
    }
)
