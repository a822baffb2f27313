from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest

from fer_core.clips.clip import Clip
from fer_core.emotions import SIX
from fer_core.errors import ClipError, ClipStatus
from fer_core.reports.page import USE_STATEMENT, bars_svg, timeline_svg
from fer_core.reports.scores import report_html
from fer_core.scoring.inputs import Item, collect

EVIL = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>\x1b[31m\u202e.mp4"


class Page(HTMLParser):
    """Every element with its attributes."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict]] = []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def all(self, tag: str) -> list[dict]:
        return [attrs for name, attrs in self.elements if name == tag]


@pytest.fixture(scope="module")
def rows(scorer, videos):
    items = [*collect([videos]), Item(Clip(id=EVIL, path=videos), refused=ClipError(ClipStatus.REJECTED, f"no {EVIL}"))]
    return [replace(row, clip=EVIL) if row.clip.endswith("good.mp4") else row for row in scorer.score_many(items)]


@pytest.fixture(scope="module")
def html(rows, scorer):
    return report_html(rows, scorer)


def test_every_row_is_there(html, rows):
    page = Page(html)
    shown = [attrs for attrs in page.all("li") if "data-order" in attrs]
    assert [attrs["data-status"] for attrs in shown] == [row.status for row in rows]
    assert len(page.all("img")) == sum(row.emotion is not None for row in rows)
    for row in rows:
        assert row.reason.split("<")[0] in html.replace("&#39;", "'")


def test_fault_107_names_are_text_never_markup(html):
    page = Page(html)
    assert len(page.all("script")) == 1
    assert not any(name.startswith("on") for _, attrs in page.elements for name in attrs)
    assert all(attrs["src"].startswith("data:image/jpeg;base64,") for attrs in page.all("img"))
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in html


def test_fault_107_policy_allows_the_pages_own_style_and_script_by_hash_and_nothing_else(html):
    (policy,) = [a["content"] for a in Page(html).all("meta") if a.get("http-equiv") == "Content-Security-Policy"]
    rules = dict(part.strip().split(" ", 1) for part in policy.split(";"))
    assert rules["default-src"] == "'none'" and rules["img-src"] == "data:"
    for tag in ("style", "script"):
        (content,) = re.findall(rf"<{tag}>(.*?)</{tag}>", html, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert rules[f"{tag}-src"] == f"'sha256-{digest}'"
    assert " style=" not in html and "javascript:" not in html


def test_page_is_self_contained(html):
    assert not re.search(r"(?:src|href)=\"(?!data:)", html)
    assert "http://" not in html and "https://" not in html and "@import" not in html and "url(" not in html


def test_fault_108_control_characters_do_not_reach_the_page(html):
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f]", html)
    assert "<bdi>" in html  # a right-to-left name keeps to itself


def test_use_statement_and_synthetic_banner_are_shown(html, rows, scorer):
    for sentence in USE_STATEMENT:
        assert sentence in html
    assert "Trained on synthetic faces." in html
    facts = scorer.bundle.facts.model_copy(update={"synthetic": False})
    real = replace(scorer.bundle, record=scorer.bundle.record.model_copy(update={"facts": facts}))
    other = type(scorer)(real, name="m")
    assert "Trained on synthetic faces." not in report_html(rows, other)


def test_a_page_does_not_call_calibrated_what_is_not(html, rows, scorer):
    assert scorer.calibrated == ("mean_scores" in scorer.bundle.facts.temperatures)
    for temperatures, said in (({"mean_scores": 1.4}, "are calibrated"), ({}, "are <b>not</b> calibrated")):
        facts = scorer.bundle.facts.model_copy(update={"temperatures": temperatures})
        record = scorer.bundle.record.model_copy(update={"facts": facts})
        assert said in report_html(rows, type(scorer)(replace(scorer.bundle, record=record), name="m"))


def test_people_trained_on_are_told_and_left_out_of_what_is_right(rows, scorer):
    one, other = [replace(row, label=row.emotion) for row in rows if row.emotion and row.clip != EVIL][:2]
    page = report_html([replace(one, seen_in_training=True), replace(other, seen_in_training=False)], scorer)
    assert "1 of 2 clips show people the model was trained on; 1 of 1 verdicts are as labelled" in page
    assert page.count("<em>seen in training</em>") == 1 and page.count(">as labelled</em>") == 1
    page = report_html([replace(row, seen_in_training=True) for row in (one, other)], scorer)
    assert page.count("<em>seen in training</em>") == 2 and "as labelled" not in page


def test_thousand_clips_stay_under_ten_megabytes(rows, scorer):
    scored = [row for row in rows if row.emotion]
    html = report_html([scored[i % len(scored)] for i in range(1000)], scorer)
    assert len(html.encode()) < 10_000_000


def test_bars_are_as_wide_as_their_shares():
    svg = bars_svg([0.5, 0.25, 0.25, 0.0, 0.0, 0.0], SIX)
    widths = {name: float(w) for name, w in re.findall(r'class="c-(\w+)" x="66" y="\d+" width="([\d.]+)"', svg)}
    assert widths["anger"] == 2 * widths["disgust"] == 2 * widths["fear"]
    assert "happiness" not in widths and 'x="60" y="45">happiness' in svg


def test_timeline_has_a_line_an_emotion_and_a_tick_a_lost_frame():
    scores = np.full((3, 6), 0.1)
    scores[:, 3] = 0.5
    svg = timeline_svg(np.array([4, 5, 7]), scores, SIX, np.array([6, 8]), np.array([0.5, -0.25, 0.0]), marked=(1,))
    lines = dict(re.findall(r'<polyline class="c-(\w+)(?: strong)?" points="([^"]+)"', svg))
    assert set(lines) == {str(e) for e in SIX}
    assert [point.split(",")[0] for point in lines["anger"].split()] == ["4", "57", "163"]
    assert svg.count("v5") == 2
    assert 'class="c-happiness strong"' in svg
    assert '<path class="adds c-happiness" d="M4 82v-4.0"/>' in svg
    assert '<path class="adds against" d="M57 82v2.0M163 82v0.0"/>' in svg
    assert re.findall(r'class="marked" cx="(\d+)"', svg) == ["57"]


@pytest.mark.parametrize("n", [1, 2, 500])
def test_timeline_of_any_length_is_small_and_drawn(n):
    svg = timeline_svg(np.arange(n), np.full((n, 6), 1 / 6), SIX, np.empty(0, int), np.zeros(n))
    (points,) = set(re.findall(r'points="([^"]+)"', svg))
    assert 2 <= len(points.split()) <= 40
