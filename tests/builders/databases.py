"""One function per database: writes it below `root` as its users have it, and returns the folder they would name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from scipy.io import savemat

from tests.builders.media import POINTER, put, put_frames, put_video

CKPLUS_CODES = {"anger": 1, "contempt": 2, "disgust": 3, "fear": 4, "happiness": 5, "sadness": 6, "surprise": 7}
CKPLUS_PUBLISHED = {
    "anger": 45, "contempt": 18, "disgust": 59, "fear": 25, "happiness": 69, "sadness": 28, "surprise": 83
}  # fmt: skip


def ckplus_sequence(
    root: Path,
    name: str,
    code: int | None,
    n_frames: int = 3,
    images: str = "cohn-kanade-images",
    labels: str = "Emotion",
) -> None:
    """One sequence, `name` like S005/001; labels are written as the database writes them."""
    stem = name.replace("/", "_")
    put_frames(root / images / name, [f"{stem}_{i:08d}.png" for i in range(1, n_frames + 1)])
    if code is not None:
        put(root / labels / name / f"{stem}_{n_frames:08d}_emotion.txt", f"   {code:.7e}\n")


def ckplus(root: Path) -> Path:
    """Zips unpacked into folders of their own names, and each trap the readers of CK+ know."""
    images, labels = "extended-cohn-kanade-images/cohn-kanade-images", "Emotion_labels/Emotion"
    for name, code in {
        "S005/001": 3,
        "S010/002": 1,
        "S010/004": 7,
        "S011/001": 2,
        "S011/002": 0,
        "S999/003": 6,
    }.items():
        ckplus_sequence(root, name, code, 11 if name == "S005/001" else 3, images, labels)
    ckplus_sequence(root, "S012/001", None, 3, images)  # no label folder
    ckplus_sequence(root, "S012/002", None, 3, images)
    (root / labels / "S012/002").mkdir(parents=True)  # label folder, empty
    ckplus_sequence(root, "S012/003", 4, 1, images, labels)  # one frame
    (root / images / "S012/004").mkdir()  # no frame
    put(root / labels / "S012/004/S012_004_00000009_emotion.txt", "5")
    ckplus_sequence(root, "S012/005", 5, 3, images, labels)
    (root / images / "S012/005/S012_005_00000003.png").unlink()  # the labelled frame is missing
    for junk in ("S005/.DS_Store", "S005/001/.DS_Store", "S005/001/._S005_001_00000011.png"):
        put(root / images / junk, b"\0\5\x16\7")
    put(root / labels / "S005/001/._S005_001_00000011_emotion.txt", b"\0\5\x16\7")
    put(root / "FACS_labels/FACS/S005/001/S005_001_00000011_facs.txt", "   1.0000000e+00   0.0000000e+00\n")
    put(root / "Landmarks/Landmarks/S005/001/S005_001_00000011_landmarks.txt", "1 2\n")
    return root


def ckplus_published(root: Path) -> Path:
    """593 sequences of 123 subjects with the published labels, no subject with two of one emotion."""
    people = [f"S{i:03d}" for i in range(1, 124)]
    sequences: dict[str, list[int | None]] = {person: [] for person in people}
    first = 0
    for emotion, n in CKPLUS_PUBLISHED.items():
        # 12 people show contempt alone: 118 have a label, 106 one of the six
        chosen = [*range(106, 118), *range(6)] if emotion == "contempt" else [(first + i) % 106 for i in range(n)]
        for i in chosen:
            sequences[people[i]].append(CKPLUS_CODES[emotion])
        first += n if emotion != "contempt" else 0
    for i in range(593 - sum(map(len, sequences.values()))):
        sequences[people[-1 - i % 123]].append(None)
    for person, codes in sequences.items():
        for i, code in enumerate(codes, 1):
            ckplus_sequence(root, f"{person}/{i:03d}", code, 2)
    return root


def mug(root: Path) -> Path:
    """Subjects with and without session folders; takes that do not begin at 0; strange neighbours."""
    base = root / "subjects3"

    def take(folder: str, first: int = 0) -> None:
        put_frames(base / folder, [f"img_{i:04d}.jpg" for i in range(first, first + 4)])

    take("001/anger/take000")
    take("001/anger/take001", first=12)
    take("001/surprise/take002end")
    take("001/fear/take000nsg")
    take("001/neutral/take000")
    take("001/random/take000")  # not an emotion
    take("002/session0/happiness/take000")
    take("002/session1/happiness/take000")
    take("003/sadness")  # frames directly in the emotion folder
    (base / "003/disgust/take000").mkdir(parents=True)
    (base / "003/fear").mkdir()
    put(base / "001/anger/take000/._img_0000.jpg", b"\0\5\x16\7")
    put(base / "001/anger/take000/Thumbs.db", b"x")
    put(base / "001/.DS_Store", b"x")
    return root


def mmi_session(base: Path, number: int, clip: str, code: str | None, view: str | None = "0", aus: str = "") -> None:
    """One session; metadata about other things stand before the emotion, so that its place says nothing."""
    folder = base / str(number)
    put_video(folder / f"{clip}.avi")
    track = f'<track type="video" filename="{clip}.avi" view="{view}"/>' if view is not None else "<track/>"
    put(folder / "session.xml", f'<?xml version="1.0"?><session sessionId="{number}">{track}</session>')
    emotion = f'<Metatag Name="Emotion" Value="{code}"/>' if code is not None else ""
    put(
        folder / f"{clip}.xml",
        f'<annotation><Metatag Name="Laughter" Value="1"/><Metatag Name="Age" Value="4"/>{emotion}</annotation>',
    )
    if aus:
        put(folder / f"{clip}-oao_aucs.xml", f"<annotation>{aus}</annotation>")


def mmi(root: Path) -> Path:
    base = root / "mmi-facial-expression-database_download_2011-02-23" / "Sessions"
    unit = '<ActionUnit Number="{}">{}</ActionUnit>'
    plain = "".join(f'<Marker Frame="{f}"/>' for f in (3, 9, 15))
    typed = '<Marker Frame="2" Type="onset"/><Marker Frame="31" Type="apex"/><Marker Frame="40" Type="offset"/>'
    mmi_session(base, 2, "S001-002", "4")
    mmi_session(base, 10, "S001-010", "1", view="2", aus=unit.format(12, plain))
    mmi_session(base, 224, "S002-106", "6", aus=unit.format(1, typed) + unit.format(2, plain))
    mmi_session(base, 225, "S002-107", "5", view="1")
    mmi_session(base, 226, "S053-001", "9")
    mmi_session(base, 227, "S053-002", None)
    mmi_session(base, 228, "S053-003", "7")  # passes a reader that tests `code > 6` after subtracting 1
    mmi_session(base, 229, "S054-001", "2", view=None)
    put_frames(base / "230", ["S054-002.jpg"])  # a still instead of a clip
    put(base / "230/session.xml", '<session><track view="0"/></session>')
    put_video(base / "231/S054-003.avi")
    put(base / "231/S054-003.xml", "<annotation><Metatag")
    put(base / "2/._S001-002.avi", b"\0\5\x16\7")
    return root


def ised(root: Path, *, form: str = "cells", header: bool = False) -> Path:
    """`form`: how MATLAB nests the table: cells, doubly wrapped cells, or a field of a struct."""
    rows = [  # participant, video, peak, emotion, intensity, sex, spectacles, beard, occlusion
        (1, 4, 30, 1, 5, "male", 1, 0, 0),
        (1, 5, 12, 2, 2, "male", 1, 0, 0),
        (5, 3, None, 3, 4, "female", 0, 0, 1),  # peak in the image's name only
        (5, 6, 1, 4, 3, "female", 0, 0, 0),
        (5, 7, 9, 8, 3, "female", 0, 0, 0),  # no such emotion
        (6, 1, 9, 1, 3, "male", 0, 0, 0),  # video missing
    ]
    table = np.empty((len(rows) + header, 16), dtype=object)
    if header:
        table[0] = [f"column {i}" for i in range(16)]
    for i, (person, video, peak, code, intensity, *groups) in enumerate(rows):
        table[i + header] = [
            person, f"ISED{person}", video, np.array([]) if peak is None else peak, rf"videos\PS {person}\{video}.avi",
            rf"peakImages\{person}_{video}_{peak}.jpg", code, intensity, *groups, np.zeros(4), np.zeros(2), np.zeros(2),
            np.zeros(2),
        ]  # fmt: skip
        if person != 6:
            put_video(root / f"videos/PS {person}/{video}.avi")
    if form == "wrapped":
        inner = table.copy()
        for index in np.ndindex(table.shape):
            cell = np.empty((1, 1), dtype=object)
            cell[0, 0] = inner[index]
            table[index] = cell
    savemat(root / "ISED_details.mat", {"details": {"table": table, "note": "x"}} if form == "struct" else {"t": table})
    put_video(root / "videos/PS 5/99.avi")  # no row
    put(root / "videos/PS 1/._4.avi", b"\0\5\x16\7")
    put_frames(root / "peakImages", ["5_3_85.jpg", "1_4_30.jpg"])
    put(root / "HowToUse.m", "load ISED_details.mat\n")
    return root


def afew(root: Path, *, xml: bool = True) -> Path:
    clips = {
        "Train_AFEW": [
            ("Angry", "000552400", "Ann Lee"),
            ("Happy", "000010000", "Bo Ray"),
            ("Neutral", "000015000", "Bo Ray"),
            ("Sad", "000020000", ""),
        ],
        "Val_AFEW": [("Surprise", "000030000", "Cy Moe"), ("Fear", "000040000", "Ann Lee")],
    }
    for folder, rows in clips.items():
        for emotion, stem, _ in rows:
            put_video(root / folder / emotion / f"{stem}.avi")
        if xml:
            body = "".join(
                f'<Sample><Clip>{stem}</Clip><Subject NameOfActor=" {actor} " MovieTitle="M"/></Sample>'
                for _, stem, actor in rows
                if actor
            )
            put(root / folder / f"{folder.split('_')[0]}_6.xml", f"<List>{body}</List>")
    put_frames(root / "Train_AFEW/AlignedFaces_LBPTOP_Points/Faces/000552400", ["000.jpg", "001.jpg"])
    put(root / "Train_AFEW/AlignedFaces_LBPTOP_Points.zip", b"PK")
    put(root / "Train_AFEW/Angry/._000552400.avi", b"\0\5\x16\7")
    return root


def ravdess(root: Path) -> Path:
    for name in (
        "01-01-05-01-01-01-01", "02-01-05-01-01-01-01", "01-01-06-02-01-01-02", "01-01-01-01-01-01-02",
        "01-01-02-01-01-01-02", "01-01-08-01-02-02-02",
    ):  # fmt: skip
        put_video(root / f"Video_Speech_Actor_{name[-2:]}/Actor_{name[-2:]}/{name}.mp4")
    put_video(root / "Video_Song_Actor_01/Actor_01/01-02-03-01-01-01-01.mp4")
    put_video(root / "copies/01-01-05-01-01-01-01.mp4")
    put(root / "Audio_Speech/Actor_01/03-01-05-01-01-01-01.wav", b"RIFF")
    put(root / "README.txt", "RAVDESS")
    put(root / "Video_Speech_Actor_01/Actor_01/._01-01-05-01-01-01-01.mp4", b"\0\5\x16\7")
    return root


def cremad(root: Path, *, pointers: bool = False) -> Path:
    names = (
        "1001_DFA_ANG_XX", "1001_IEO_HAP_HI", "1002_DFA_DIS_XX", "1002_DFA_NEU_XX", "1002_DFA_FEA_XX",
        "1076_MTI_SAD_XX", "1064_TIE_SAD_XX", "1064_IEO_DIS_MD", "1076_MTI_NEU_XX",
    )  # fmt: skip
    for name in names:
        if pointers:
            put(root / f"VideoFlash/{name}.flv", POINTER)
        else:
            put_video(root / f"VideoFlash/{name}.flv")
    put(root / "VideoFlash/1002_ITS_SAD_XX.flv", POINTER)
    put(root / "AudioWAV/1001_DFA_ANG_XX.wav", b"RIFF")
    put(
        root / "VideoDemographics.csv",
        "ActorID,Age,Sex,Race,Ethnicity\n1001,51,Male,Caucasian,Not\n1002,21,Female,x,y\n",
    )
    votes = {"1001_DFA_ANG_XX": "A", "1001_IEO_HAP_HI": "H:N", "1002_DFA_DIS_XX": "A", "1002_DFA_FEA_XX": "N"}
    put(
        root / "processedResults/summaryTable.csv",
        '"","FileName","VoiceVote","FaceVote"\n'
        + "".join(f'"{i}","{name}","N","{vote}"\n' for i, (name, vote) in enumerate(votes.items(), 1)),
    )
    return root


def class_folders(root: Path) -> Path:
    put_video(root / "Happy/s1_a.mp4")
    put_video(root / "Happy/s1_a.mkv")
    put_video(root / "happy_people/s9_z.mp4")  # no class
    put_frames(root / "anger/s2_b", ["frame10.jpg", "frame9.jpg", "frame11.jpg"])
    put_frames(root / "anger", ["s3_still.png"])
    put_video(root / "sad/s4/session 1/s4_c.mp4")
    put_video(root / "contempt/s5_d.mp4")
    put_video(root / "neutral/s5_e.mp4")
    (root / "anger/s6_empty").mkdir()
    put(root / "anger/s7_zero.mp4", b"")
    put(root / "anger/s7_pointer.mp4", POINTER)
    put(root / "anger/notes.txt", "x")
    put(root / "anger/.DS_Store", "x")
    put(root / "anger/._s2_b.mp4", b"\0\5\x16\7")
    put(root / "anger/s2_b/._frame9.jpg", b"\0\5\x16\7")
    return root
