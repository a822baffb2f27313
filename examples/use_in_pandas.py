"""Make a table of verdicts with pandas: python examples/use_in_pandas.py VIDEOS OUT.csv"""

from __future__ import annotations

import sys

import pandas as pd

from ferflow import Scorer


def verdicts_of(folder: str) -> pd.DataFrame:
    """Return one row per clip: path, status, emotion, whether the model abstains, and the probability of each class."""
    scorer = Scorer.champion()
    return pd.DataFrame(
        {"path": v.path, "status": v.status.value, "emotion": v.emotion, "abstained": v.abstained, **v.by_class}
        for v in scorer.score_all([folder])
    )


def main(folder: str, out: str) -> None:
    """Print how many clips show each emotion, without those on which the model abstains, and write all rows."""
    table = verdicts_of(folder)
    print(table[~table["abstained"]]["emotion"].value_counts().to_string())
    table.to_csv(out, index=False)


if __name__ == "__main__":
    main(*sys.argv[1:])
