"""Print the verdict on every video in a folder: python examples/score_a_folder.py VIDEOS"""

from __future__ import annotations

import sys

from ferflow import Scorer


def main(folder: str) -> None:
    """Print one line per clip as soon as it is scored."""
    scorer = Scorer.champion()
    for verdict in scorer.score_all([folder]):
        if verdict.emotion is None:
            print(f"{verdict.clip}: {verdict.status}: {verdict.reason}")
        else:
            doubt = " (uncertain)" if verdict.abstained else ""
            print(f"{verdict.clip}: {verdict.emotion}, {verdict.confidence:.0%}{doubt}")


if __name__ == "__main__":
    main(sys.argv[1])
