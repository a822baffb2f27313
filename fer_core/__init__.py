"""Emotion recognition from videos of faces: the library.

Follow a clip from file to verdict through the rooms, in this order; a room imports only from rooms above it.

    emotions, errors, model_names, config, config_errors, databases, runtime, store
                  words, settings and what is wrong with them, the machine, the content-addressed store
    palette.py    one colour per class
    published.py  every number of the thesis and of the papers
    clips/        what we have: files on disk -> Clips, Manifest, splits
    preprocess/   Clip -> Faces (n, 224, 224) uint8 and a ledger of every frame
    features/     what is frozen: Faces -> features of a backbone, descriptors; stored once
    workspace.py  the folder of everything a run makes
    dataset/      a run's clips with their faces, and the table of them that training reads
    training/     the one epoch loop, its checkpoint, stopping, history and class weights
    models/       every way from a clip to scores (n, k) and a Verdict, one file a model
    evaluation/   scores and labels -> numbers: metrics, calibration, the gate, the lockbox
    scoring/      ClipScorer: video in, Verdict out; the one inference path
    experiments/  many fits -> what they show: search, comparison, external validation, a candidate for the registry
    reports/      every plot and page
    thesis/       the thesis's four implementations, and ours beside them
    housekeeping/ what is removed: a person, unused entries of the store
    tracking/     the only room that imports MLflow: runs, registry, the pyfunc model
    api.py        the public Python API; the package `ferflow` re-exports it

Nothing here imports Prefect; `flows/` wraps these doors. Importing this package imports nothing heavy.
"""

__version__ = "0.1.0"
