"""Rivals: every way from a clip to a verdict that the thesis names, fitted and judged on the same faces and folds.

material.py     what all of them read: a feature table, its clips' stored faces, descriptors of these
rival.py        what a rival is: `fit(data, fit_clips, stop_clips, seed)`, then `scores(data, clips)`
heads.py        the thesis's FC head under its clip rules (§4.1)
nets.py         how a network over whole clips is fitted; attention.py (appendix), recurrent.py, volume.py (§1.3.2)
classical.py    support vectors and forest; texture.py and motion.py are what they read (§1.3.1)
fused.py        two rivals' scores joined (§1.3.2)
catalogue.py    all of them by name
comparison.py   `compare`: one table; elsewhere.py: the same on other people; figures.py and page.py show them
"""
