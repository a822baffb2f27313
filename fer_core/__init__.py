"""Emotion recognition from videos of faces: the library.

Follow a clip from file to verdict through the rooms, in this order; a room imports only from rooms above it.

    emotions, errors, models, config, config_errors, runtime, store
                  words, settings and what is wrong with them, the machine, the content-addressed store
    clips/        what we have: files on disk -> Clips, Manifest, splits
    preprocess/   Clip -> Faces (n, 224, 224) uint8 and a ledger of every frame
    model/        Faces -> features and descriptors -> scores (n, 6) -> Verdict
    workspace.py  the folder of everything a run makes; corpus.py: a run's clips, faces and features in it;
                  forget.py: a person taken out of it
    training/     features and labels -> a fitted head
    evaluation/   scores and labels -> numbers, pictures, reports
    rivals/       every way from a clip to a verdict, fitted, and compared on the same faces and folds
    search/       many trials -> the one to keep
    scoring/      ClipScorer: video in, Verdict out; the one inference path
    candidate.py  a chosen trial -> a model for the registry; exam.py: its one look at the test clips;
                  implementation.py: one of the thesis's four, fitted and examined
    housekeeping/ room made in a workspace's store
    tracking/     the only room that imports MLflow: runs, registry, the pyfunc model

Nothing here imports Prefect; `flows/` wraps these doors. Importing this package imports nothing heavy.
"""

__version__ = "0.1.0"
