from __future__ import annotations

import base64
import hashlib
import math
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from fer_core.clips.clip import Clip, Split
from fer_core.clips.datasets import scan
from fer_core.clips.manifest import Manifest, write_manifest
from fer_core.config import LimitsConfig, PreprocessConfig
from fer_core.emotions import SIX, Emotion
from fer_core.errors import ClipStatus
from fer_core.evaluation.datacard import SHEET_CLIPS, ClipFacts, DataCard, blind_baseline, data_card, lost, worst
from fer_core.preprocess.clip_rows import store_faces
from fer_core.preprocess.faces import FrameStatus
from fer_core.preprocess.pipeline import preprocess
from fer_core.preprocess.store import FacesStore
from fer_core.published import TABLE_4_2
from fer_core.reports.datacard import _as_thesis, card_html, markdown_card
from fer_core.reports.distributions import ledger_svg, spread_svg
from fer_core.reports.page import USE_STATEMENT
from fer_core.workspace import Workspace
from tests.preprocess.films import face_frames, plain_frames, write_folder, write_video

EVIL = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>\x1b[31m"
LIMITS = LimitsConfig(workers=1, timeout_s=60)
CFG = PreprocessConfig(max_frames=6)
USED, NO_FACE = FrameStatus.USED, FrameStatus.NO_FACE


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
def folder(tmp_path_factory) -> Path:
    """Clips of five people in two databases, one of them open; a split; and clips that cannot be used."""
    root = tmp_path_factory.mktemp("clips")
    write_video(root / "a.mp4", face_frames(12))
    write_video(root / "dark.mp4", [frame // 2 for frame in face_frames(10)])
    write_folder(root / "frames", face_frames(6))
    write_video(root / "half.mp4", plain_frames(8) + face_frames(3) + plain_frames(5))
    write_video(root / "plain.mp4", plain_frames(6))
    (root / "page.mp4").write_text("<html><body>no video</body></html>")
    rows = [
        Clip("apex", root / "a.mp4", "cremad:1", Emotion.FEAR, "cremad", 8, Split.TRAIN, {"sex": "female"}),
        Clip("dark", root / "dark.mp4", "cremad:2", Emotion.ANGER, "cremad", None, Split.TRAIN, {"sex": "male"}),
        Clip("frames", root / "frames", "lab:1", Emotion.FEAR, "lab", 5, Split.TEST),
        Clip("half", root / "half.mp4", "lab:2", Emotion.SADNESS, "lab", None, Split.TRAIN),
        Clip(EVIL, root / "plain.mp4", "lab:2", Emotion.SADNESS, "lab", None, Split.TRAIN),
        Clip("page", root / "page.mp4", "lab:3", Emotion.ANGER, "lab", None, Split.TEST),
    ]
    write_manifest(Manifest(tuple(rows)), root / "clips.csv")
    return root


def card_of(manifest: Path, workspace: Workspace) -> DataCard:
    found = scan("manifest", manifest, subject="none")
    rows = store_faces(found.manifest.clips, CFG, LIMITS, workspace.store)
    return data_card(manifest.name, found, rows, CFG, LIMITS, FacesStore(workspace.store))


@pytest.fixture(scope="module")
def workspace(tmp_path_factory) -> Workspace:
    return Workspace(tmp_path_factory.mktemp("workspace"))


@pytest.fixture(scope="module")
def card(folder, workspace) -> DataCard:
    return card_of(folder / "clips.csv", workspace)


@pytest.fixture(scope="module")
def html(card) -> str:
    return card_html(card)


def facts(**values) -> ClipFacts:
    """A clip that lacks nothing, but for what is said."""
    clip = {"id": "c", "path": Path("c.mp4"), "subject": "x:1", "emotion": Emotion.FEAR, "dataset": "x"}
    clip |= {k: values.pop(k) for k in list(values) if k in clip}
    values = {"status": ClipStatus.OK, "reason": "", "n_frames": 10, "end": 9, "ledger": (USED,) * 5, **values}
    return ClipFacts(clip=Clip(**clip), **values)


def test_every_clip_and_every_selected_frame_is_accounted_for(card):
    assert [f.clip for f in card.facts] == list(card.manifest.clips)
    numbers = card.numbers()
    assert numbers["faces"] + sum(numbers["lost"].values()) == numbers["selected"]
    assert sum(numbers["status"].values()) == numbers["clips"] == 6
    assert sum(len(card.of(emotion=e)) for e in SIX) == 6
    assert sum(len(card.of(dataset=d)) for d in card.manifest.datasets) == 6


def test_facts_are_what_the_files_hold(card):
    by_id = {f.clip.id: f for f in card.facts}
    assert (by_id["frames"].n_frames, by_id["frames"].form) == (6, "frames")
    assert math.isnan(by_id["frames"].seconds)
    cut = by_id["apex"]
    assert (cut.n_frames, cut.end, cut.width, cut.height, cut.form) == (12, 8, 160, 120, "mp4")
    assert cut.seconds == pytest.approx(12 / 25)
    assert by_id["dark"].brightness == pytest.approx(cut.brightness / 2, rel=0.1)
    assert by_id["page"].status is ClipStatus.UNSUPPORTED and by_id["page"].n_frames == 0
    assert by_id["half"].n_used == 2


def test_contact_sheet_shows_first_middle_and_apex_frame(card, folder):
    (cut,) = [s for s in card.sheet[Emotion.FEAR] if s.clip.apex == 8]
    assert cut.frames == (0, 4, 8)
    whole = preprocess(cut.clip, PreprocessConfig(selection="all", equalize="none", size=112), LIMITS)
    for place, face in zip(cut.frames, cut.faces, strict=True):
        np.testing.assert_array_equal(face, whole.pixels[place])
    np.testing.assert_array_equal(cut.seen, preprocess(cut.clip, CFG, LIMITS).pixels[-1])


def test_contact_sheet_leaves_a_gap_where_there_is_no_face(card):
    (half,) = card.sheet[Emotion.SADNESS]
    assert half.frames == (0, 7, 15) and half.faces == (None, None, None)
    assert Emotion.DISGUST not in card.sheet
    assert all(len(row) <= SHEET_CLIPS for row in card.sheet.values())


def test_same_data_gives_the_same_card(card, folder, workspace, html):
    again = card_html(card_of(folder / "clips.csv", workspace))
    minute = r"\d+ \w+ \d{4}, \d\d:\d\d"
    assert re.sub(minute, "", again) == re.sub(minute, "", html)


def test_worst_clips_come_worst_first_and_perfect_ones_not_at_all(card):
    assert [f.clip.id for f, _ in card.worst] == [EVIL, "page", "half"]
    listed = [facts(id=str(i), ledger=(USED,) * i + (NO_FACE,) * (9 - i)) for i in range(1, 10)]
    assert [f.clip.id for f in worst(listed[::-1], n=20)] == [str(i) for i in range(1, 9)]
    assert lost(listed)["no_face"] == sum(range(1, 9))


def test_judge_that_sees_no_face_finds_a_planted_giveaway_and_nothing_where_there_is_none():
    rng = np.random.default_rng(0)
    people = [
        facts(id=f"{s}{e}", subject=f"x:{s}", emotion=e, brightness=rng.uniform(60, 160), end=int(rng.integers(9, 60)))
        for s in range(30)
        for e in SIX
    ]
    fair = blind_baseline(people)
    assert fair is not None and fair.low < 1 / 6 < fair.high
    dark = [replace(f, brightness=20 * SIX.index(f.clip.emotion) + rng.uniform(0, 15)) for f in people]
    told = blind_baseline(dark)
    assert told is not None and told.value > 0.95
    by_source = [replace(f, clip=replace(f.clip, dataset=str(SIX.index(f.clip.emotion) // 3))) for f in people]
    merged = blind_baseline(by_source)
    assert merged is not None and merged.low > 1 / 6


@pytest.mark.parametrize(
    "change",
    [
        lambda i, f: replace(f, clip=replace(f.clip, subject="")),
        lambda i, f: replace(f, clip=replace(f.clip, subject=f"x:{i % 4}")),
        lambda i, f: replace(f, clip=replace(f.clip, emotion=Emotion.FEAR)),
    ],
    ids=["nobody is known", "four people", "one class"],
)
def test_judge_is_not_asked_where_people_cannot_be_kept_apart(change):
    clips = [facts(id=str(i), subject=f"x:{i}", emotion=SIX[i % 6]) for i in range(30)]
    assert blind_baseline(clips) is not None
    assert blind_baseline([change(i, f) for i, f in enumerate(clips)]) is None


def test_one_recording_of_two_people_is_told(folder, workspace, tmp_path):
    (tmp_path / "copy.mp4").write_bytes((folder / "a.mp4").read_bytes())
    clips = (
        Clip("a", folder / "a.mp4", "lab:1", Emotion.FEAR, "lab"),
        Clip("b", tmp_path / "copy.mp4", "lab:2", Emotion.FEAR, "lab"),
        Clip("c", folder / "dark.mp4", "", Emotion.ANGER, "lab"),
    )
    write_manifest(Manifest(clips), tmp_path / "clips.csv")
    card = card_of(tmp_path / "clips.csv", workspace)
    html = card_html(card)
    assert any("same content" in w and "'a' and 'b'" in w for w in card.warnings)
    assert "clips without a subject cannot be split" in html
    assert "Nobody is on two sides" not in html and "not split yet" in html
    assert "decision tree" not in html


def test_tables_hold_the_thesis_beside_this_data(html):
    rows = [
        re.sub(r"<[^>]+>", " ", row).replace("\u202f", "").split()
        for row in re.findall(r"<tr.*?</tr>", html, re.DOTALL)
    ]
    assert ["training", "1", "0", "1", "0", "2", "0", "4", "3"] in rows  # Table 3.2
    assert ["thesis", "80", "112", "70", "152", "84", "133", "631"] in rows
    assert [r[-1] for r in rows if r[0] in {*SIX, "all"} and r[-1].isdecimal() and len(r) == 10 and "%" not in r] == [
        *("1246", "1495", "1165", "2875", "1904", "1960", "10645")
    ]
    (mine,) = [r for r in rows if r[0] == "CREMA-D"]
    head, losses = re.search(r"(<tr><th[^>]*>frames lost.*?</tr>).*?(<tr.*?</tr>)", html, re.DOTALL).groups()
    assert head.count("<th") == losses.count("<th") + losses.count("<td"), "a column for each reason"
    assert mine[-1] == "yes" and next(r for r in rows if r[0] == "lab")[-1] == "no"
    assert ["female", "0", "0", "1", "0", "0", "0", "1", "1", "100", "%"] in rows


def test_classes_that_the_thesis_does_not_know_have_none_of_its_numbers(card):
    """Its sum over six stood below whatever classes there were."""
    clips = tuple(replace(clip, emotion="pain") for clip in card.manifest.clips)
    facts = tuple(replace(f, clip=replace(f.clip, emotion="pain")) for f in card.facts)
    manifest = replace(card.manifest, clips=clips, classes=("pain", "no_pain"))
    html = card_html(replace(card, manifest=manifest, facts=facts)).replace("\u202f", "")
    assert ">pain</th>" in html and "10645" not in html and ">631<" not in html and ">thesis<" not in html
    five = _as_thesis(TABLE_4_2, SIX[1:])
    assert five[:-1] == list(TABLE_4_2[1:]) and five[-1] == sum(TABLE_4_2[1:])


def test_all_found_is_never_said_where_a_frame_is_missing(card):
    many = replace(card.facts[0], ledger=(USED,) * 9999 + (NO_FACE,))
    html = card_html(replace(card, facts=(many, *card.facts[1:])))
    assert "99.9 %" in html and "100.0" not in html


def test_banners_tell_what_the_pictures_are(card, html):
    assert "Synthetic faces." not in html and "Keep this page on this machine." in html
    drawn = tuple(replace(f, clip=replace(f.clip, dataset="drawn-synthetic")) for f in card.facts)
    other = card_html(replace(card, manifest=Manifest(tuple(f.clip for f in drawn)), facts=drawn))
    assert "Synthetic faces." in other and "All of these clips" in other and "Keep this page" not in other
    for sentence in USE_STATEMENT:
        assert sentence in html


def test_page_without_faces_has_no_picture(card, html):
    assert Page(html).all("img")
    bare = card_html(card, faces=False)
    assert not Page(bare).all("img") and "data:image" not in bare
    assert "Without faces." in bare and "The worst clips" in bare


def test_fault_107_names_are_text_never_markup(html):
    page = Page(html)
    assert not page.all("script")
    assert not any(name.startswith("on") for _, attrs in page.elements for name in attrs)
    assert all(attrs["src"].startswith("data:image/jpeg;base64,") for attrs in page.all("img"))
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in html
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f]", html)


def test_policy_allows_the_pages_own_style_by_hash_and_nothing_else(html):
    (policy,) = [a["content"] for a in Page(html).all("meta") if a.get("http-equiv") == "Content-Security-Policy"]
    rules = dict(part.strip().split(" ", 1) for part in policy.split(";"))
    assert rules["default-src"] == "'none'" and rules["img-src"] == "data:"
    assert rules["script-src"] == "'none'"
    (content,) = re.findall(r"<style>(.*?)</style>", html, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
    assert rules["style-src"] == f"'sha256-{digest}'"
    assert " style=" not in html and "http://" not in html and "https://" not in html and "url(" not in html


def test_markdown_holds_the_same_sums(card):
    text = markdown_card(card)
    numbers = card.numbers()
    (total,) = [line.split("|") for line in text.splitlines() if line.startswith("| all")]
    assert [cell.strip() for cell in total[2:-1]] == [
        *("6", "5", str(numbers["frames"])), total[5].strip(), *(str(numbers["selected"]), str(numbers["faces"]))
    ]  # fmt: skip


@pytest.mark.parametrize("n", [1, 7, 119, 5000])
def test_ledger_strip_shows_a_single_lost_frame_among_many(n):
    ledger = [USED] * n
    ledger[n // 2] = NO_FACE
    svg = ledger_svg(ledger)
    assert svg.count('class="no_face"') == 1 and svg.count("<rect") <= 120


def test_spread_holds_every_clip_of_every_database():
    rng = np.random.default_rng(1)
    values = np.append(rng.normal(100, 30, 200), np.nan)
    databases = [i % 3 for i in range(201)]
    emotions = [SIX[i % 6] for i in range(201)]
    svg = spread_svg(values, databases, emotions, SIX)
    highest = int(re.search(r">(\d+) clips<", svg)[1])
    heights = dict.fromkeys(range(3), 0.0)
    for d, tall in re.findall(r'class="d(\d)"[^>]*height="([\d.]+)"', svg):
        heights[int(d)] += float(tall)
    counts = [round(h * highest / 102) for h in heights.values()]
    assert counts == pytest.approx([67, 67, 66], abs=1)
    assert svg.count("<circle") == 6


@pytest.mark.parametrize("values", [[40.0], [0.0, 0.0], [1.0, 1e6], [-3.0, math.nan]])
def test_spread_of_any_values_is_drawn(values):
    svg = spread_svg(np.array(values), [0] * len(values), [Emotion.FEAR] * len(values), SIX)
    assert "nan" not in svg and "inf" not in svg and '<rect class="d0"' in svg
