from __future__ import annotations

import base64
import hashlib
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fer_core.clips.clip import Clip
from fer_core.emotions import SIX
from fer_core.errors import ClipError, ClipStatus
from fer_core.reports.page import USE_STATEMENT, bars_svg, timeline_svg
from fer_core.reports.scores import DRAWN, report_html, write_report
from fer_core.scoring.inputs import Item, collect
from tests.browser import needs_browser, opened

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


def data(html: str, name: str) -> Any:
    """What a data block of the page holds."""
    (text,) = re.findall(rf'<script type="application/json" id="{name}">(.*?)</script>', html, re.DOTALL)
    return json.loads(text)


def many(rows, n: int) -> list:
    """n rows with a verdict, labelled and named in turn; every third is a mistake."""
    (row,) = [row for row in rows if row.clip == EVIL and row.emotion][:1]
    made = []
    for i in range(n):
        emotion = row.classes[i % 6]
        scores = np.full(6, 0.1)
        scores[i % 6] = 0.5
        label = emotion if i % 3 else row.classes[(i + 1) % 6]
        made.append(
            replace(
                row, clip=f"{EVIL}-{i}", emotion=str(emotion), probabilities=scores, label=str(label),
                subject=f"s{i % 9}",
                seen_in_training=False, digest=f"{i:032x}", abstained=i % 10 == 0,
            )
        )  # fmt: skip
    return made


def test_every_row_is_there(html, rows):
    page = Page(html)
    shown = [attrs for attrs in page.all("li") if "data-order" in attrs]
    assert [attrs["data-status"] for attrs in shown] == [row.status for row in rows]
    assert len(page.all("img")) == sum(row.emotion is not None for row in rows)
    for row in rows:
        assert row.reason.split("<")[0] in html.replace("&#39;", "'")


def test_fault_107_names_are_text_never_markup(html):
    page = Page(html)
    kinds = [attrs.get("type", "") for attrs in page.all("script")]
    assert kinds == ["application/json", "application/json", ""]  # data, which no browser runs, and our own script
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


def test_rows_beyond_the_first_are_text_that_the_script_draws(rows, scorer):
    html = report_html(many(rows, DRAWN + 30), scorer)
    assert len([a for a in Page(html).all("li") if "data-order" in a]) == DRAWN
    rest = data(html, "rest")
    assert len(rest) == 30 and len(data(html, "facts")["rows"]) == DRAWN + 30
    page = Page("".join(rest))
    assert [a["data-order"] for a in page.all("li")] == [str(DRAWN + 1 + i) for i in range(30)]
    assert not page.all("script") and not any(n.startswith("on") for _, attrs in page.elements for n in attrs)


def test_labels_give_matrix_and_interval(html, rows, scorer):
    assert "Verdicts against labels" not in html
    page = report_html(many(rows, 36), scorer)
    assert "Accuracy <b>66.7 [" in page and "resampled by person, over 36 clips" in page
    cells = re.findall(r'<td class="n( same)?(?: none)?">(\d+)</td>', page)
    assert sum(int(n) for same, n in cells if same) == 24
    assert "resampled by clip" in report_html([replace(row, subject="") for row in many(rows, 36)], scorer)


def test_film_is_linked_relative_to_the_page_and_its_name_cannot_leave_the_link(rows, scorer, tmp_path):
    (row,) = many(rows, 1)
    row = replace(row, path=str(tmp_path / "films" / 'a "b" <c>.mp4'))
    write_report([row, replace(row, path="javascript:alert(1)", digest="")], scorer, tmp_path / "out" / "report.html")
    page = Page((tmp_path / "out" / "report.html").read_text())
    assert [a["href"] for a in page.all("a")] == ["../films/a%20%22b%22%20%3Cc%3E.mp4"]
    (policy,) = [a["content"] for a in page.all("meta") if a.get("http-equiv") == "Content-Security-Policy"]
    assert "media-src file:" in policy
    (tmp_path / "frames").mkdir()
    write_report([replace(row, path=str(tmp_path / "frames"))], scorer, tmp_path / "out" / "report.html")
    page = Page((tmp_path / "out" / "report.html").read_text())
    assert [a["href"] for a in page.all("a")] == ["../frames/"]  # by the slash, the review knows that it cannot play it


def test_faces_and_charts_have_names_for_screen_readers(rows, scorer):
    page = Page(report_html(many(rows, 3), scorer))
    assert all(EVIL[:8] in a["alt"] and len(a["alt"]) > 10 for a in page.all("img"))
    assert all((a.get("role") == "img" and a["aria-label"]) or a.get("aria-hidden") for a in page.all("svg"))
    assert sum(a.get("class") == "timeline" for a in page.all("svg")) == 3


def test_a_large_batch_has_several_pages_that_link_each_other(rows, scorer, tmp_path, monkeypatch):
    monkeypatch.setattr("fer_core.reports.scores.MOST", 40)
    path = tmp_path / "report.html"
    write_report(many(rows, 100), scorer, path)
    names = ["report.html", "report-2.html", "report-3.html"]
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(names)
    for number, name in enumerate(names):
        html = (tmp_path / name).read_text()
        clips = [fact[0] for fact in data(html, "facts")["rows"]]
        assert [int(clip.rpartition("-")[2]) for clip in clips] == list(range(100))[40 * number : 40 * number + 40]
        links = [a["href"] for a in Page(html).all("a") if a["href"] in names]
        assert links == 2 * names  # above the clips and below
        assert f"Clips {40 * number + 1} to {min(40 * number + 40, 100)} of 100" in html and "of this page only" in html
        assert ("Accuracy" in html) == (number == 0)
    write_report(many(rows, 50), scorer, path)
    assert not (tmp_path / "report-3.html").exists()
    write_report(many(rows, 40), scorer, path)
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"] and "Clips 1 to" not in path.read_text()


@pytest.fixture
def report(rows, scorer, tmp_path) -> Path:
    write_report(many(rows, 3 * DRAWN), scorer, tmp_path / "report.html")
    return tmp_path / "report.html"


@needs_browser
def test_person_filters_and_sorts(report):
    with opened(report.as_uri()) as page:

        def shown() -> list[str]:
            return page.eval_on_selector_all("#clips > li", "rows => rows.map((row) => row.dataset.order)")

        assert len(shown()) == DRAWN
        page.select_option("#verdict", "fear")
        page.select_option("#match", "wrong")
        assert page.inner_text("#shown") == "0 of 300"  # of every sixth clip, always the same
        page.select_option("#verdict", "anger")
        page.select_option("#status", "abstained")
        assert page.inner_text("#shown") == "10 of 300" and shown()[:2] == ["1", "31"]
        page.fill("#most", "40")
        assert page.inner_text("#shown") == "0 of 300"
        for field in ("#verdict", "#match", "#status"):
            page.select_option(field, "")
        page.fill("#most", "")
        page.fill("#find", "-299")
        assert shown() == ["300"]  # a row that was text until now
        page.fill("#find", "")
        page.click('[data-key="emotion"]')
        page.click('[data-key="emotion"]')
        assert shown()[0] == "6"
        page.evaluate("scrollTo(0, document.body.scrollHeight)")
        page.locator("#clips > li").nth(DRAWN).wait_for(state="attached")


@needs_browser
def test_person_reviews_by_keyboard_and_the_answers_go_into_a_manifest(report, tmp_path):
    from fer_core.clips.corrections import read_corrections

    with opened(report.as_uri()) as page:
        page.click("#review")
        page.keyboard.press("s")
        page.fill("#who", '=Ann, "B"')
        page.keyboard.press("Enter")  # leaves the field
        assert page.get_attribute("#stage li", "data-order") == "1"  # of the clips that abstain, the first
        for key in ("Enter", "2", "0"):
            page.keyboard.press(key)
        page.keyboard.press("ArrowLeft")
        page.keyboard.press("Backspace")
        page.keyboard.press("5")
        assert "3 of 300 reviewed; the verdict was right on 1 of 3" in page.inner_text("#count")
        page.reload()
        page.click("#review")
        assert "3 of 300 reviewed" in page.inner_text("#count")  # kept by the browser
        with page.expect_download() as download:
            page.click("#save")
        download.value.save_as(tmp_path / "corrections.csv")
    found = read_corrections(tmp_path / "corrections.csv")
    assert [(c.digest, c.label) for c in found] == [(f"{i:032x}", label) for i, label in zip((0, 10, 20), (
        "anger", "disgust", "sadness"), strict=True)]  # fmt: skip
    assert {c.who for c in found} == {'=Ann, "B"'}


@needs_browser
def test_a_served_page_has_no_dead_links_to_films(report):
    import threading
    from functools import partial
    from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    with opened(report.as_uri()) as page:
        assert page.locator("#clips a.source").count() == DRAWN
    (report.parent / "favicon.ico").write_bytes(b"")
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(report.parent)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        with opened(f"http://127.0.0.1:{server.server_port}/{report.name}") as page:
            assert page.locator("#clips a.source").count() == 0
            page.click("#review")
            assert "Films are not served; open this page from its folder" in page.inner_text("#film")
    finally:
        server.shutdown()
        server.server_close()
