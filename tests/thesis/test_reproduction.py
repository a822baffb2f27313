from __future__ import annotations

import dataclasses
import html
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from markdown_it import MarkdownIt

from fer_core.clips.clip import Split
from fer_core.emotions import SIX, Emotion
from fer_core.evaluation.metrics import evaluate
from fer_core.published import IMPLEMENTATIONS
from fer_core.thesis.claims import answer_claims
from fer_core.thesis.departures import departures
from fer_core.thesis.page import reproduction_html, reproduction_markdown
from fer_core.thesis.reproduction import THESIS_RULES
from fer_core.training.history import History
from tests.evaluation.drawn import FACTS, LABELS, SUBJECTS, diverged, history, outcome, reproduction, verdicts


class Cells(HTMLParser):
    """Texts of a page's table cells, and what it refers to."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.cells: list[str] = []
        self.sources: list[str] = []
        self._inside = 0
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.sources += [value for name, value in attrs if name in ("src", "href", "style", "onclick")]
        if tag in ("td", "th"):
            self._inside += 1
            self.cells.append("")

    def handle_endtag(self, tag):
        self._inside -= tag in ("td", "th")

    def handle_data(self, data):
        if self._inside:
            self.cells[-1] += data


@pytest.fixture(scope="module")
def page() -> str:
    return reproduction_html(reproduction())


def test_the_page_is_one_file_that_runs_nothing_of_others(page):
    assert "default-src 'none'" in html.unescape(page) and "img-src data:" in html.unescape(page)
    assert all(source.startswith("data:image/svg+xml;base64,") for source in Cells(page).sources)
    assert "http" not in re.sub(r"http-equiv", "", page)


def test_every_number_of_the_thesis_stands_beside_ours(page):
    cells = Cells(page).cells
    for one in IMPLEMENTATIONS:
        ours = reproduction().outcome(one.number)
        for rule in THESIS_RULES:
            assert f"{one.average[rule]:.2f}" in cells
            recall = ours.tests[rule].mean_recall
            assert any(cell.startswith(f"{100 * recall.value:.1f} [{100 * recall.low:.1f}") for cell in cells)
            assert all(f"{by_rule[rule]:.2f}" in cells for by_rule in one.recall.values())
        assert all(f"{value:.2f}°" in cells for value in one.unsaid.values())


def test_there_are_eight_matrices_and_the_curves_of_four(page):
    assert page.count('<table class="matrix">') == 8 and page.count('<img class="curves"') == 4
    shares = reproduction().outcome(1).tests["mean_scores"].normalized()
    assert f"{shares[2, 5]:.0f}<small>" in page


def test_synthetic_faces_and_rehearsals_are_said_first(page):
    assert "Synthetic faces" in page and "A rehearsal" in page  # drawn: 12 epochs of the thesis's 170
    markdown = reproduction_markdown(reproduction())
    assert "**Synthetic faces" in markdown and "at most 12 epochs" in markdown
    real = reproduction(data=dataclasses.replace(FACTS, synthetic=False, datasets=("ckplus",)))
    assert "Synthetic" not in reproduction_html(real) and "Synthetic" not in reproduction_markdown(real)


def test_fault_107_a_databases_name_is_text_in_markdown():
    evil = "[x](http://evil) | <b>y"
    found = reproduction(data=dataclasses.replace(FACTS, datasets=(evil,)))
    tokens = MarkdownIt("commonmark").enable("table").parse(reproduction_markdown(found))
    inlines = [t for t in tokens if t.type == "inline"]
    shown = ["".join(c.content for c in t.children) for t in inlines]
    assert not {c.type for t in inlines for c in t.children} & {"link_open", "html_inline"}
    assert sum(evil in text for text in shown) == 2, "above the table, and in what differs from the thesis"


def test_a_diverging_setting_is_a_row_that_says_so():
    found = reproduction(outcome(1), diverged(2))
    for text in (reproduction_html(found), reproduction_markdown(found)):
        assert "the loss became nan and the fit has diverged" in text
    assert reproduction_html(found).count('<table class="matrix">') == 2
    assert reproduction_html(found).count('<img class="curves"') == 2  # up to where it diverged
    nothing = reproduction(diverged(1), diverged(2))
    assert "No implementation could be trained" in reproduction_html(nothing)
    assert "The test set was not opened." in reproduction_markdown(nothing) and not answer_claims(nothing)


def test_a_network_that_learnt_nothing_is_named():
    flat = np.full(120, 3)
    stuck = outcome(
        1, verdicts=dict.fromkeys(THESIS_RULES, flat), tests={r: evaluate(flat, LABELS, SUBJECTS) for r in THESIS_RULES}
    )
    assert stuck.one_answer is Emotion.HAPPINESS and outcome(2).one_answer is None
    assert "gives one answer, happiness, to every test clip" in reproduction_markdown(reproduction(stuck))


def test_text_from_data_is_escaped():
    named = reproduction(data=dataclasses.replace(FACTS, datasets=("<script>alert(1)</script>",)))
    assert "<script>alert" not in reproduction_html(named)


def claim(found, begins):
    return next(c for c in answer_claims(found) if c.claim.startswith(begins))


def test_the_claims_are_answered_from_the_numbers():
    found = reproduction()
    beats = claim(found, "Mean scores beat")
    assert beats.answer.startswith("Here in 4 of 4") and beats.rows[0][1] == "+5.47"
    assert all("[" in row[2] and row[2].startswith("+") for row in beats.rows)
    fear = claim(found, "Fear is taken")
    assert fear.answer == "Fear goes to surprise more often than the reverse in 8 of 8 matrices."
    assert fear.rows[0][2].startswith("0.0")
    assert "2 of 2 pairs (2 against 1, 4 against 3). All rests on 12 validation clips." in claim(found, "Fewer").answer
    assert [row[0][:11] for row in claim(found, "A narrower").rows] == [
        f"{a} against {b}" for a, b in ((2, 1), (4, 3), (3, 1), (4, 2))
    ]


def test_the_reverse_is_said_too():
    reversed_ = reproduction(*(outcome(n, vote=0.9, mean=0.5) for n in (1, 2)))
    assert (
        claim(reversed_, "Mean").answer
        == "Here in 0 of 2, the reverse in 2; beyond chance in 0, and in 2 the other way."
    )
    same = reproduction(outcome(1, vote=0.8, mean=0.8))
    assert claim(same, "Mean").answer == "Here in 0 of 1; nothing beyond chance."


def test_claims_that_cannot_be_asked_are_left_out():
    claims = [c.claim for c in answer_claims(reproduction(outcome(1)))]
    assert not any(c.startswith("A narrower") for c in claims)
    alone = claim(reproduction(outcome(1)), "Fewer")
    assert alone.answer.startswith("All rests on 12")


def test_what_differs_says_where_the_fc_layers_began():
    lines = {what: here for what, _, here in departures(reproduction())}
    assert lines["FC layers start"] == "random weights" and "std [0.0039, 0.0039, 0.0039]" in lines["normalisation"]
    of_two = {what: here for what, _, here in departures(reproduction(normalization="fer2013+imagenet"))}
    assert of_two["normalisation"].startswith("fer2013, mean [") and "; eq. 3.5, mean [" in of_two["normalisation"]
    assert lines["FC widths"] == "1: 4096–4096–6; 2: 4096–1024–6; 3: 4096–4096–6; 4: 4096–1024–6"
    both = reproduction(outcome(1, pretrained=(0, 1)), outcome(2, pretrained=(0,)))
    start = {what: here for what, _, here in departures(both)}["FC layers start"]
    assert start == "1: layers 1 and 2 from ImageNet, the last one random; 2: layer 1 from ImageNet, the others random"


def test_the_gap_is_of_the_last_epochs_and_needs_a_validation_set():
    assert outcome(1).gap()[2] == pytest.approx(0.1)
    blind = [
        dataclasses.replace(e, validation_accuracy=float("nan"), validation_loss=float("nan")) for e in history().epochs
    ]
    assert outcome(1, history=History(blind)).gap() is None


def test_no_class_is_lost_when_one_has_no_test_clip():
    known = LABELS != 4
    given = {r: verdicts(0.8, 1)[known] for r in THESIS_RULES}
    subjects = [s for s, k in zip(SUBJECTS, known, strict=True) if k]
    tests = {r: evaluate(v, LABELS[known], subjects) for r, v in given.items()}
    found = reproduction(outcome(1, verdicts=given, tests=tests), labels=LABELS[known], subjects=subjects)
    assert "no clips" in reproduction_html(found) and len(answer_claims(found)) >= 3


def test_the_json_holds_both_sides():
    numbers = reproduction(outcome(4)).to_json()
    [one] = numbers["implementations"]
    assert one["thesis"]["mean_scores"] == 85.81 and one["epochs"] == {"thesis": 180, "here": 12}
    assert one["test"]["mean_scores"]["n_clips"] == 120 and numbers["synthetic"] is True
    assert FACTS.clips[Split.TEST] == (20,) * len(SIX)


def test_networks_as_published_stand_under_the_thesis_table():
    found = evaluate(verdicts(0.6, 9), LABELS, SUBJECTS)
    shown = reproduction(untrained={"fer2013": found})
    assert f"| fer2013 | {found.mean_recall} | {found.accuracy} |" in reproduction_markdown(shown)
    cells = Cells(reproduction_html(shown)).cells
    assert cells[cells.index("fer2013") + 1].startswith(f"{100 * found.mean_recall.value:.1f} [")
    assert shown.to_json()["untrained"]["fer2013"]["n_clips"] == 120
    assert "no training" not in reproduction_markdown(reproduction())
