"""From nothing to a champion: networks adopted without clips, promoted, and evaluated later on labelled ones."""

from __future__ import annotations

import numpy as np
import pytest

from fer_core.config import PromoteConfig, RunConfig, TrackingConfig
from fer_core.errors import RegistryError, WeightsError
from fer_core.features.known_weights import fetch
from fer_core.tracking.connection import connect
from fer_core.tracking.evaluated import least_stays
from fer_core.tracking.registry import load_champion, load_out_of_fold_record
from tests.flows.test_cli import run


def test_a_network_that_cannot_be_adopted_is_refused_before_a_server_starts(workspace):
    done = run("adopt", "vgg16")
    assert (
        done.exit_code == 1 and "'vgg16' cannot be adopted; networks with classes of their own: fer2013" in done.stderr
    )
    done = run("adopt", "fer2013", "--relative", "sometimes")
    assert done.exit_code == 1 and "--relative is none or neutral; got 'sometimes'" in done.stderr


@pytest.mark.slow
def test_an_adopted_network_is_the_first_champion_and_gets_its_record_from_labelled_clips(
    workspace, tmp_path, prefect_server
):
    from fer_core.clips.manifest import read_manifest, write_manifest
    from fer_core.clips.synthetic import synthesize
    from flows.adopt import adopt_flow
    from flows.evaluate import evaluate_flow
    from flows.promote import promote_flow

    try:
        fetch(["fer2013"])
    except WeightsError as exc:
        pytest.skip(str(exc))
    config = RunConfig(workspace=str(workspace), tracking=TrackingConfig(uri=f"sqlite:///{workspace}/mlflow.db"))
    made = adopt_flow(networks="fer2013", config=config)
    assert made["clips"] == 0 and made["calibration"].startswith("not calibrated")
    demanding = config.model_copy(update={"promote": PromoteConfig(min_mean_recall=0.5)})
    with pytest.raises(RegistryError, match=r"version 1 has no record .* 'ferflow adopt' on a labelled manifest"):
        promote_flow(config=demanding)
    assert promote_flow(config=config)["champion"] == 1
    tracking = connect(config.tracking, workspace)
    facts = load_champion(tracking).bundle.facts
    assert (facts.model, facts.temperatures, facts.subjects) == ("adopted", {}, ())

    write_manifest(synthesize(tmp_path / "drawn", subjects=4), tmp_path / "drawn.csv")
    labelled = config.model_copy(update={"manifest": str(tmp_path / "drawn.csv")})
    evaluated = adopt_flow(networks="fer2013", relative="none", config=labelled)
    record = load_out_of_fold_record(tracking, evaluated["version"])
    assert record is not None and len(record.clips) == evaluated["clips"] == 24
    assert evaluated["calibration"].startswith("temperature")
    assert record.ms_per_clip == pytest.approx(evaluated["ms_per_clip"], abs=0.01) and record.ms_per_clip > 0

    clips = read_manifest(tmp_path / "drawn.csv")
    write_manifest(clips.with_clips(c for c in clips.clips if c.emotion == "happiness"), tmp_path / "happy.csv")
    happy = adopt_flow(networks="fer2013", config=config.model_copy(update={"manifest": str(tmp_path / "happy.csv")}))
    assert happy["clips"] == 4 and happy["calibration"].startswith("not calibrated: clips of one class")
    assert happy["ms_per_clip"] > 0 and load_out_of_fold_record(tracking, happy["version"]) is None

    found = evaluate_flow(str(tmp_path / "happy.csv"), evaluated["version"], stress=True, config=config)
    assert found["clips"] == 4 and len(found["verdicts_that_stay"]) == 9
    version = tracking.client.get_model_version("face-emotion", str(evaluated["version"]))
    assert "4 clips of 4 other people, some drawn or rendered: mean recall" in version.description
    assert "licence MIT; trained on FER2013" in version.description
    assert 0 < least_stays(tracking, evaluated["version"]) <= 1 and np.isnan(least_stays(tracking, 1))
    asked = config.model_copy(update={"promote": PromoteConfig(min_stays=1.0, force=True)})
    refused = promote_flow(version=evaluated["version"], config=asked)
    assert "verdicts that stay" in refused["reason"] or least_stays(tracking, evaluated["version"]) == 1
