"""Predict the emotions of clips. `ClipScorer` is used everywhere: for single clips, batches, test sets and in MLflow.

`inputs` finds the clips in files and folders, `scorer` predicts them, `batch` stores the rows of many clips and
resumes, `tables` writes result files.
"""
