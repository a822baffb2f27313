"""Rivals: every way from a clip to a verdict that the thesis names, fitted and judged on the same clips and folds.

rival.py        what a rival is: `fit(fits, side)` -> a classifier of `model/classifiers`
fits.py         the clips of a table, a side of them, and what has been fitted to it
heads.py        the thesis's FC head under its clip rules (§4.1)
nets.py         how a network over whole clips is fitted; attention.py (appendix), recurrent.py, volume.py (§1.3.2)
classical.py    support vectors and forest on a descriptor (§1.3.1); fused.py: two rivals joined (§1.3.2)
catalogue.py    all of them by name, and what their fits read
costs.py        milliseconds a clip
comparison.py   `compare`: one table; elsewhere.py: the same on other people; figures.py and page.py show them
cross_database.py  a setting trained on each database, tested on each other
"""
