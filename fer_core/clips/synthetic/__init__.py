"""Synthetic faces: clips of drawn, shaded faces in motion, for the demo and the tests; always labelled synthetic.

    units.py       what each FACS action unit does to skin; the emotions' prototypes
    identity.py    what makes a face this face
    anatomy.py     a face at rest: height field, albedo, and how it moves
    hair.py        what frames it
    features.py    eyes and mouth, which open
    rendering.py   muscles, light, head pose, camera -> one frame
    population.py  chance: subjects, scenes, what happens in a clip
    writing.py     mp4 files, frame folders, manifest

Nobody's face is in it, and no number measured on it says anything about people.
"""

from fer_core.clips.synthetic.writing import DATASET, draw_clip, draw_landmarks, synthesize

__all__ = ["DATASET", "draw_clip", "draw_landmarks", "synthesize"]
