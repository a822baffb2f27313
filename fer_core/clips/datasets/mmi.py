"""MMI: posed expressions, onset-apex-offset videos in numbered sessions. Needs a signed EULA; may not be passed on.

    Sessions/224/session.xml             <track view="...">: 0 frontal, 1 profile, 2 both side by side
    Sessions/224/S002-106.avi
    Sessions/224/S002-106.xml            <Metatag Name="Emotion" Value="4"/>
    Sessions/224/S002-106-oao_aucs.xml   AU markers, frames from 1; some sessions only

Most frontal clips are stored rotated by 90 degrees. Preprocessing finds by face detection which way is up, and which
half of a dual clip is the frontal one.
"""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

from fer_core.clips.datasets.survey import Scan, Survey, read_xml, stills, videos
from fer_core.emotions import SIX, Classes
from fer_core.errors import DataError

LAYOUT = "Sessions/224/S002-106.avi with S002-106.xml and session.xml beside it"
VIEWS = {"0": "frontal", "2": "dual"}


def read(root: Path, *, classes: Classes | None = SIX, follow_links: bool = False) -> Scan:
    """Return the frontal and dual clips of MMI, with the apex where AU markers give it.

    Clips with an emotion code outside the six, or without a code, are dropped and counted.

    Raises:
        DataError: no numbered session is found, or no clip is usable.
    """
    survey = Survey("mmi", root, classes=classes, follow_links=follow_links)
    unknown_view = 0
    for session in _sessions(survey):
        entries = survey.entries(session)
        clips = videos(entries)
        if not clips:
            survey.drop("still image" if stills(entries) else "no video")
        documents = {p.name.lower(): p for p in entries if p.suffix.lower() == ".xml"}
        for clip in clips:
            view = _view(read_xml(documents.get("session.xml")), clip)
            unknown_view += view is None
            if view == "1":
                survey.drop("profile view")
                continue
            survey.add(
                clip,
                take=f"{session.name}/{clip.stem}",
                clip=f"{session.name}/{clip.stem}",
                subject=clip.stem.partition("-")[0],
                label=_label(documents, clip),
                apex=_apex(read_xml(documents.get(f"{clip.stem.lower()}-oao_aucs.xml"))),
                groups={"view": VIEWS[view]} if view in VIEWS else {},
            )
    if unknown_view:
        survey.warn(f"mmi: {unknown_view} clips have no view in session.xml; they are kept, and may be profiles")
    survey.say_apex_unknown()
    return survey.close(LAYOUT)


def _sessions(survey: Survey) -> list[Path]:
    for base in (*survey.find("Sessions"), survey.root):
        if sessions := [p for p in survey.folders(base) if p.name.isdecimal()]:
            return sorted(sessions, key=lambda p: int(p.name))
    raise DataError(f"{survey.root}: no folder 'Sessions' with numbered sessions; looked for {LAYOUT}")


def _view(session: ElementTree.Element | None, clip: Path) -> str | None:
    """Return the view of the track that names the clip, otherwise of the first track with a view; None without one."""
    if session is None:
        return None
    tracks = [t for t in session.iter() if t.tag.lower() == "track" and "view" in t.attrib]
    named = [t for t in tracks if any(clip.stem.lower() in v.lower() for v in t.attrib.values())]
    return (named or tracks)[0].get("view", "").strip() if tracks else None


def _label(documents: dict[str, Path], clip: Path) -> str | None:
    """Return the label in the Metatag named Emotion: codes 1-6 are the six emotions, other codes are other classes."""
    document = read_xml(documents.get(f"{clip.stem.lower()}.xml"))
    if document is None:
        return "unreadable annotation" if f"{clip.stem.lower()}.xml" in documents else None
    for tag in document.iter("Metatag"):
        if tag.get("Name") == "Emotion":
            code = tag.get("Value", "").strip()
            return SIX[int(code) - 1] if code in {"1", "2", "3", "4", "5", "6"} else f"other class (code {code})"
    return None


def _apex(markers: ElementTree.Element | None) -> int | None:
    """Return the frame, counted from 0, in the middle of the action units' apexes; None without markers.

    Markers with `apex` in an attribute are used. Where there are none, the middle marker of each unit with three or
    more (onset, apex, offset) is used. Marker types are not documented; their frames count from 1.
    """
    if markers is None:
        return None
    called, middles = [], []
    for unit in markers.iter("ActionUnit"):
        frames = []
        for marker in unit.iter("Marker"):
            if marker.get("Frame", "").strip().isdecimal():
                frames.append(int(marker.get("Frame", "")))
                if any("apex" in value.lower() for value in marker.attrib.values()):
                    called.append(frames[-1])
        if len(frames) >= 3:
            middles.append(sorted(frames)[len(frames) // 2])
    frames = sorted(called or middles)
    return max(frames[len(frames) // 2] - 1, 0) if frames else None
