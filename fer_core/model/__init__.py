"""Faces -> features and descriptors -> scores -> verdict.

backbone.py, architectures.py, weights.py   the frozen convolutions and where their weights come from
features.py, augment.py                     what they give, stored, and the table that fits read
descriptors/                                what hand-made rules say of the faces
inputs.py                                   the two, as models read them
classifiers/                                from inputs to scores; head.py and attention.py are layers of theirs
verdict.py                                  the clip rules, calibrated probabilities
record.py, bundle.py                        a model in two files
grad_cam.py                                 where in a face a head's score comes from
"""
