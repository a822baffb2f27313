"""Video in, verdict out: `ClipScorer` is the one inference path, for one clip, a batch, a test set or the MLflow model.

`inputs` turns what a user names into clips, `scorer` judges them, `batch` keeps the rows of many and resumes, `tables`
and `report` write them down.
"""
