"""Synthetic faces: clips of drawn, shaded faces in motion, for the demo and the tests; always labelled synthetic.

    units.py       how each FACS action unit moves the skin; the emotions' prototypes
    identity.py    parameters in which faces differ
    anatomy.py     a face at rest: height field, albedo, and displacement fields
    hair.py        hair and ears
    features.py    eyes and mouth
    rendering.py   muscles, light, head pose, camera -> one frame
    population.py  random subjects, scenes and scripts of clips
    writing.py     mp4 files, frame folders, manifest

The faces are of no real person, and results on them say nothing about people.
"""

from fer_core.clips.synthetic.writing import DATASET, draw_clip, draw_landmarks, synthesize

__all__ = ["DATASET", "draw_clip", "draw_landmarks", "synthesize"]
