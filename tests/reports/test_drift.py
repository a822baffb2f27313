from __future__ import annotations

import numpy as np

from fer_core.evaluation.drift import MEASURES, Sample, drift
from fer_core.reports.drift import drift_page, drift_sentence


def sample(size: float, n: int = 100) -> Sample:
    rng = np.random.default_rng(int(size))
    return Sample({name: rng.normal(size, 4, n) for name in MEASURES}, {"fear": n // 2, "<b>": n - n // 2})


def test_page_warns_in_plain_words_and_shows_both_distributions():
    reference, now = sample(50), sample(60)
    found = drift(reference, now)
    sentence = drift_sentence(found)
    assert sentence.startswith("this batch differs from the training clips in size of the face, pixels (PSI ")
    page = drift_page(found, reference, now, "face-emotion version 3", "3 clips were reviewed.")
    assert sentence in page and "3 clips were reviewed." in page
    assert page.count('role="img"') == 5 and page.count('class="level strong"') == 4
    assert "<b>" not in page.replace("<b>face-emotion", "").replace("<b>Warning", "") and "&lt;b&gt;" in page


def test_page_without_drift_gives_no_warning():
    reference, now = sample(50), sample(50)
    assert drift_sentence(drift(reference, now)) == ""
    assert "No difference from the training clips found" in drift_page(drift(reference, now), reference, now, "m")


def test_page_of_few_clips_says_so():
    reference, now = sample(50), sample(60, n=4)
    page = drift_page(drift(reference, now), reference, now, "m")
    assert page.count("too few clips</td>") == 5
