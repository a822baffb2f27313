"""Descriptors: arrays computed from a clip's faces by fixed rules instead of a network (§1.3).

descriptor.py   the interface; a descriptor reads the expression's faces, those of the whole course, or its landmarks
texture.py      local binary patterns, and their change from neutral to apex
motion.py       displacement of points, 3-D gradient histograms
landmarks.py    displacement of the 468 landmarks of a face, in 3-D
volume.py       small copies of the faces
catalogue.py    all descriptors by name
"""
