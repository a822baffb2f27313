from __future__ import annotations

import re
from pathlib import Path

import pytest
from mlflow import MlflowClient

from fer_core.clips.clip import Clip
from fer_core.clips.manifest import Manifest, write_manifest
from fer_core.config import LimitsConfig, RunConfig, TrackingConfig
from fer_core.emotions import Emotion
from fer_core.errors import StoreError
from tests.preprocess.films import face_frames, write_video


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("card")
    for name, n in (("a", 8), ("b", 6)):
        write_video(folder / f"{name}.mp4", face_frames(n))
    return folder


def config_of(root: Path, dataset: str, **tracking: bool) -> RunConfig:
    clips = [
        Clip(name, root / f"{name}.mp4", f"{dataset}:{name}", emotion, dataset)
        for name, emotion in (("a", Emotion.FEAR), ("b", Emotion.ANGER))
    ]
    write_manifest(Manifest(tuple(clips)), root / f"{dataset}.csv")
    return RunConfig(
        workspace=str(root / "workspace"),
        manifest=str(root / f"{dataset}.csv"),
        limits=LimitsConfig(workers=1),
        tracking=TrackingConfig(**tracking),
    )


@pytest.mark.parametrize(
    ("dataset", "tracking", "uploaded"),
    [("ckplus", {}, False), ("ckplus", {"upload_faces": True}, True), ("ravdess", {}, True)],
    ids=["signed", "signed, but told to", "open"],
)
def test_mlflow_gets_the_card_and_faces_only_where_they_may_leave(prefect_server, root, dataset, tracking, uploaded):
    from flows.card import card_flow

    said = card_flow(out=str(root / "out" / "card.html"), config=config_of(root, dataset, **tracking))
    assert "<img" in (root / "out" / "card.html").read_text()
    client = MlflowClient(f"sqlite:///{root / 'workspace' / 'mlflow.db'}")
    page = Path(client.download_artifacts(said["run"], "card.html", str(root))).read_text()
    assert ("<img" in page) is uploaded and "2 clips of 2 people" in page
    run = client.get_run(said["run"])
    assert run.data.tags["data_fingerprint"] == said["fingerprint"] and run.info.status == "FINISHED"
    assert said["faces"] == said["selected"] > 0 and said["redistribute"] is (dataset == "ravdess")


def test_run_page_shows_the_numbers_and_no_face(prefect_server, root):
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey

    from flows.card import card_flow

    said = card_flow(faces=False, config=config_of(root, "ckplus"))
    assert "<img" not in (root / "workspace" / "card.html").read_text()
    assert said["card"] == str(root / "workspace" / "card.html")
    with get_client(sync_client=True) as client:
        artifacts = client.read_artifacts(artifact_filter=ArtifactFilter(key=ArtifactFilterKey(any_=["summary"])))
    texts = [str(a.data) for a in artifacts]
    assert any(re.search(r"\| fear \| 1 \| 1 \| 8 \|", text) for text in texts)
    assert not any("data:image" in text for text in texts)


def test_folder_in_the_place_of_the_page_is_refused_before_any_clip_is_read(prefect_server, root):
    from flows.card import card_flow

    (root / "page.html").mkdir()
    with pytest.raises(StoreError, match=r"page\.html: it is a folder, not a regular file; choose another name"):
        card_flow(out=str(root / "page.html"), config=config_of(root, "nowhere"))
