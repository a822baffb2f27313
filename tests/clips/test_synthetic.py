import csv
import subprocess
import sys
import time
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from fer_core.clips.clip import Clip, clip_digest, frame_files
from fer_core.clips.manifest import Manifest, read_manifest
from fer_core.clips.synthetic import draw_clip, synthesize
from fer_core.clips.synthetic.anatomy import build
from fer_core.clips.synthetic.population import draw_person, draw_script
from fer_core.clips.synthetic.rendering import Portrait, Pose, seen_at
from fer_core.clips.synthetic.units import FURROWS, HABITS, PROTOTYPES, PUSHES, UNITS
from fer_core.clips.synthetic.writing import _write_folder
from fer_core.emotions import SIX, Emotion
from fer_core.errors import ConfigError, DataError, StoreError

SUBJECTS = 3


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("synthetic") / "out"


@pytest.fixture(scope="module")
def manifest(folder: Path) -> Manifest:
    return synthesize(folder, SUBJECTS, seed=3, workers=2)


def frames(clip: Clip) -> list[np.ndarray]:
    if clip.path.is_dir():
        return [cv2.imread(str(p), cv2.IMREAD_GRAYSCALE) for p in frame_files(clip.path)]
    with av.open(str(clip.path)) as container:
        return [frame.to_ndarray(format="gray") for frame in container.decode(video=0)]


def by_name(manifest: Manifest) -> dict[str, str]:
    return {clip.id: clip_digest(clip.path) for clip in manifest.clips}


def test_every_subject_shows_every_emotion_once(manifest: Manifest) -> None:
    assert len(manifest) == 6 * SUBJECTS
    assert set(manifest.class_counts().values()) == {SUBJECTS}
    assert manifest.subjects == tuple(f"ferflow-synthetic:seed3-s{k:03d}" for k in range(SUBJECTS))


def test_people_of_another_seed_are_other_people(tmp_path: Path) -> None:
    assert synthesize(tmp_path, 1, seed=0, workers=1).subjects == ("ferflow-synthetic:s000",)


def test_everything_says_that_it_is_synthetic(manifest: Manifest) -> None:
    assert all(clip.synthetic and "synthetic" in clip.subject for clip in manifest.clips)


def test_manifest_on_disk_reads_back_as_the_one_returned(manifest: Manifest, folder: Path) -> None:
    assert read_manifest(folder / "manifest.csv") == manifest
    with (folder / "manifest.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert set(rows[0]) == {"clip", "path", "label", "subject", "dataset", "apex"}
    assert all((folder / row["path"]).exists() and not Path(row["path"]).is_absolute() for row in rows)


def test_one_clip_in_five_is_a_frame_folder(manifest: Manifest) -> None:
    folders = [clip for clip in manifest.clips if clip.path.is_dir()]
    assert len(folders) == len(manifest) // 5
    assert all([p.name for p in frame_files(c.path)][:2] == ["img_0000.jpg", "img_0001.jpg"] for c in folders)
    assert all(c.path.suffix == ".mp4" for c in manifest.clips if c not in folders)


def test_clips_are_as_long_as_their_apex_says(manifest: Manifest) -> None:
    for clip in manifest.clips:
        assert 12 <= len(frames(clip)) <= 24
        assert clip.apex == len(frames(clip)) - 1


def test_films_are_h264_at_25_frames_a_second(manifest: Manifest) -> None:
    for clip in manifest.clips:
        if clip.path.suffix == ".mp4":
            with av.open(str(clip.path)) as container:
                stream = container.streams.video[0]
                assert stream.codec_context.name == "h264"
                assert stream.pix_fmt == "yuv420p"
                assert stream.average_rate == 25


def test_viola_jones_finds_the_expressive_faces(manifest: Manifest) -> None:
    cascade = cv2.CascadeClassifier(cv2.data.haarcascades + "haarcascade_frontalface_default.xml")
    found = []
    for clip in manifest.clips:
        film = frames(clip)
        for frame in film[len(film) // 2 :: 2]:
            least = int(0.2 * frame.shape[0])
            boxes = cascade.detectMultiScale(frame, 1.1, 5, minSize=(least, least))
            found.append(any(w > 0.35 * frame.shape[0] for _, _, w, _ in boxes))
    assert np.mean(found) >= 0.97


def test_expression_grows_to_the_last_frame() -> None:
    """Seen with a still head and a noiseless camera, the last frame is the one least like the first."""
    for subject in range(2):
        person = draw_person(5, subject)
        portrait = Portrait(person.identity, build(person.identity, 40.0), person.scene)
        still = np.zeros((person.scene.height, person.scene.width, 3), np.float32)
        for emotion in SIX:
            script = draw_script(5, subject, emotion, person)
            film = [portrait.frame(u, Pose(), (0.0, 0.0), 0.0, still).astype(int) for u in script.units[:-1:3]]
            film.append(portrait.frame(script.units[-1], Pose(), (0.0, 0.0), 0.0, still).astype(int))
            distance = [np.abs(frame - film[0]).mean() for frame in film]
            assert np.argmax(distance) == len(film) - 1, (subject, emotion, distance)


def test_eyes_are_open_in_the_first_and_the_last_frame() -> None:
    for subject in range(40):
        person = draw_person(0, subject)
        for emotion in SIX:
            blink = draw_script(0, subject, emotion, person).blink
            assert blink[0] == blink[-1] == 0


def test_landmarks_move_as_the_drawn_face_does() -> None:
    person = draw_person(0, 2)
    portrait = Portrait(person.identity, build(person.identity, person.scene.ppu), person.scene)
    still = np.zeros((person.scene.height, person.scene.width, 3), dtype=np.float32)
    eye = np.array([[person.identity.eye_x, 0.0]])

    def patch(pose: Pose, at: Pose) -> np.ndarray:
        frame = portrait.frame(np.zeros((2, len(UNITS)), dtype=np.float32), pose, (0.0, 0.0), 0.0, still)
        ((x, y),) = seen_at(eye, person.scene, at)
        return cv2.getRectSubPix(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY), (25, 25), (float(x), float(y))).ravel()

    rest, moved = Pose(), Pose(roll=0.1, dx=0.3, dy=-0.1, zoom=1.1)
    before = patch(rest, rest)
    assert np.corrcoef(before, patch(moved, moved))[0, 1] > 0.8
    assert np.corrcoef(before, patch(moved, rest))[0, 1] < 0.5


def test_faint_and_mixed_clips_keep_the_task_honest() -> None:
    """About one clip in eight moves less than half as far as its emotion usually does."""
    moved: dict[Emotion, list[float]] = {emotion: [] for emotion in SIX}
    for subject in range(80):
        person = draw_person(1, subject)
        for emotion in SIX:
            units = draw_script(1, subject, emotion, person).units
            moved[emotion].append(float(np.abs(units[-1] - units[0]).sum()))
    faint = [m < 0.55 * np.median(amounts) for amounts in moved.values() for m in amounts]
    assert 0.07 < np.mean(faint) < 0.2


def test_same_seed_draws_the_same_frames() -> None:
    once, again, other = (np.stack(list(draw_clip(seed, 1, Emotion.FEAR))) for seed in (7, 7, 8))
    assert once.dtype == np.uint8
    assert np.array_equal(once, again)
    assert once.shape != other.shape or not np.array_equal(once, other)


def test_clips_depend_neither_on_the_number_of_subjects_nor_of_workers(manifest: Manifest, tmp_path: Path) -> None:
    alone = by_name(synthesize(tmp_path / "one", 1, seed=3, workers=1))
    assert alone.items() <= by_name(manifest).items()


def test_a_killed_run_leaves_whole_clips_and_is_finished_by_the_next(manifest: Manifest, tmp_path: Path) -> None:
    out = tmp_path / "killed"
    call = "import pathlib, sys, fer_core.clips.synthetic as s; s.synthesize(pathlib.Path(sys.argv[1]), 1, 3, 1)"
    process = subprocess.Popen([sys.executable, "-c", call, str(out)])
    while not list(out.glob("s000/s000_*")) and process.poll() is None:
        time.sleep(0.02)
    process.kill()
    process.wait()
    assert not (out / "manifest.csv").exists()
    whole = {clip.path.name: clip_digest(clip.path) for clip in manifest.clips if clip.subject.endswith("s000")}
    left = {path.name: clip_digest(path) for path in out.glob("s000/s000_*")}
    assert left and left.items() <= whole.items()
    assert by_name(synthesize(out, 1, seed=3, workers=1)).items() <= by_name(manifest).items()


def test_an_interrupted_frame_folder_is_not_there(tmp_path: Path) -> None:
    def cut_off():  # type: ignore[no-untyped-def]
        yield np.zeros((16, 16, 3), np.uint8)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        _write_folder(tmp_path / "s000_fear", cut_off())
    assert list(tmp_path.iterdir()) == []


def test_a_second_call_draws_nothing(manifest: Manifest, folder: Path) -> None:
    before = {clip.id: clip.path.stat().st_mtime_ns for clip in manifest.clips}
    calls: list[tuple[int, int]] = []
    assert synthesize(folder, SUBJECTS, seed=3, progress=lambda *n: calls.append(n)) == manifest
    assert calls == []
    assert before == {clip.id: clip.path.stat().st_mtime_ns for clip in manifest.clips}


def test_progress_counts_clips_up_to_all(tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []
    synthesize(tmp_path, 1, seed=1, workers=1, progress=lambda *n: calls.append(n))
    assert calls[-1] == (6, 6)


@pytest.mark.parametrize("wrong", [{"subjects": 0}, {"seed": -1}, {"workers": -1}], ids=str)
def test_impossible_numbers_are_refused(tmp_path: Path, wrong: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match=f"{next(iter(wrong))} must be at least"):
        synthesize(tmp_path / "out", **wrong)
    assert not (tmp_path / "out").exists()


def test_a_foreign_folder_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(DataError, match=r"holds other files \(the first is 'thesis.txt'\)"):
        synthesize(tmp_path, 1)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.txt"]


def test_clips_of_another_seed_are_not_mixed_in(manifest: Manifest, folder: Path) -> None:
    with pytest.raises(DataError, match="another recipe"):
        synthesize(folder, SUBJECTS, seed=4)


def test_a_file_in_the_way_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("")
    with pytest.raises((DataError, StoreError), match="out"):
        synthesize(tmp_path / "out", 1)


def test_prototypes_are_those_of_facs_and_every_unit_does_something() -> None:
    assert {e: tuple(p) for e, p in PROTOTYPES.items()} == {
        Emotion.HAPPINESS: (6, 12),
        Emotion.SADNESS: (1, 4, 15),
        Emotion.SURPRISE: (1, 2, 5, 26),
        Emotion.FEAR: (1, 2, 4, 5, 7, 20, 26),
        Emotion.ANGER: (4, 5, 7, 23),
        Emotion.DISGUST: (9, 10, 15, 16),
    }
    assert set(PUSHES) == set(UNITS) >= set(FURROWS)
    assert {unit for habits in HABITS.values() for unit, _, _ in habits} <= set(UNITS)
    person = draw_person(0, 0)
    portrait = Portrait(person.identity, build(person.identity, 40.0), person.scene)
    still = np.zeros((person.scene.height, person.scene.width, 3), np.float32)
    calm = portrait.frame(np.zeros((2, len(UNITS))), Pose(), (0, 0), 0, still).astype(int)
    for row, unit in enumerate(UNITS):
        one = np.zeros((2, len(UNITS)))
        one[:, row] = 1
        changed = np.abs(portrait.frame(one, Pose(), (0, 0), 0, still) - calm).max(axis=-1)
        assert (changed > 12).sum() > 60, f"action unit {unit} cannot be seen"
