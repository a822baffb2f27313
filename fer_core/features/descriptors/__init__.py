"""Descriptors: arrays taken of a clip's faces by hand-made rules, beside the convolutions' features (§1.3).

descriptor.py   what one is, and which faces it is taken of: the expression's, or the clip's whole course
texture.py      local binary patterns, and their change from neutral to apex
motion.py       displacement of points, 3-D gradient histograms; volume.py: the faces
catalogue.py    all of them by name
"""
