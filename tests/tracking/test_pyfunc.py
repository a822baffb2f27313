"""The model as downstream users load it: a process that has never heard of this project."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest

import fer_core
from fer_core.runtime import child_environment, n_cores
from fer_core.scoring.scorer import ClipScorer
from fer_core.tracking import pyfunc
from fer_core.tracking.packing import REQUIREMENTS
from tests.preprocess.films import face_frames, plain_frames, write_video

# The installed project is hidden, so that only what came with the model can be imported.
HIDE = """
import importlib.util, json, sys, warnings
sys.meta_path = [f for f in sys.meta_path if "editable" not in repr(f).lower()]
project = {project!r}
sys.path = [p for p in sys.path if not p.startswith(project) or "site-packages" in p]
sys.path_importer_cache.clear()
assert importlib.util.find_spec("fer_core") is None, "the project can still be imported"
"""
USE = """
import mlflow, pandas as pd
mlflow.set_tracking_uri({uri!r})
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    model = mlflow.pyfunc.load_model("models:/face-emotion/{version}")
good, plain, gone = {paths!r}
answer = {{
    "table": model.predict(pd.DataFrame({{"path": [good, plain, gone]}})).to_json(orient="records"),
    "dicts": model.predict([{{"path": good}}]).to_json(orient="records"),
    "bytes": model.predict([{{"video": open(good, "rb").read()}}]).to_json(orient="records"),
    "library": sys.modules["fer_core"].__file__,
    "warnings": [str(w.message) for w in caught if "hint" in str(w.message)],
    "refused": {{}},
}}
bad = {{"text": good, "texts": [good], "column": pd.DataFrame({{"clip": [good]}}), "none": [{{"path": None}}],
       "both": [{{"path": good, "video": b"x"}}], "number": [{{"path": 3}}], "empty": []}}
for name, value in bad.items():
    try:
        answer["refused"][name] = f"gave {{len(model.predict(value))}} rows"
    except Exception as exc:
        answer["refused"][name] = type(exc).__name__
print("\\nanswer " + json.dumps(answer))
"""


def fresh(code: str, cwd: Path, **env: str) -> subprocess.CompletedProcess[str]:
    """Run code in a process that nobody has prepared for torch."""
    return subprocess.run(
        [sys.executable, "-P", "-c", code],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=300,
        env={**{name: value for name, value in os.environ.items() if name not in child_environment(1)}, **env},
    )


@pytest.fixture(scope="module")
def paths(tmp_path_factory) -> list[str]:
    root = tmp_path_factory.mktemp("clips")
    write_video(root / "good.mp4", face_frames(10))
    write_video(root / "plain.mp4", plain_frames(4))
    return [str(root / name) for name in ("good.mp4", "plain.mp4", "gone.mp4")]


@pytest.fixture(scope="module")
def answer(registered, paths, tmp_path_factory) -> dict:
    """Everything a fresh process was told."""
    project = str(Path(fer_core.__file__).parents[1])
    code = HIDE.format(project=project) + USE.format(
        uri=registered.tracking.uri, version=registered.versions[0], paths=paths
    )
    done = fresh(code, tmp_path_factory.mktemp("elsewhere"), OMP_DISPLAY_ENV="verbose")
    assert done.returncode == 0, done.stderr[-3000:]
    openmp = re.findall(r"(OMP_WAIT_POLICY|GOMP_SPINCOUNT|OMP_NUM_THREADS) = '(.*)'", done.stderr)
    return {**json.loads(done.stdout.rpartition("\nanswer ")[2]), "openmp": openmp}


def test_library_that_runs_is_the_one_that_came_with_the_model(answer):
    assert answer["library"].endswith("code/fer_core/__init__.py")
    assert not answer["library"].startswith(str(Path(fer_core.__file__).parents[1]))


def test_openmp_is_passive_when_torch_is_imported(answer):
    expected = {("OMP_WAIT_POLICY", "PASSIVE"), ("GOMP_SPINCOUNT", "0"), ("OMP_NUM_THREADS", str(n_cores()))}
    assert set(answer["openmp"]) == expected


def test_verdicts_are_those_of_the_scorer(answer, registered, paths):
    scorer = ClipScorer(registered.bundles[0])
    for got, path in zip(json.loads(answer["table"]), paths, strict=True):
        row = scorer.score(path)
        assert (got["path"], got["status"], got["emotion"]) == (path, row.status, row.emotion)
        assert (got["frames"], got["abstained"], got["reason"]) == (row.n_used, row.abstained, row.reason)
        if row.emotion:
            assert np.allclose([got[str(c)] for c in scorer.classes], row.probabilities, atol=1e-6)
            assert got["confidence"] == pytest.approx(row.confidence, abs=1e-6)


def test_paths_as_dicts_and_videos_as_bytes_give_the_same_verdict(answer):
    first = json.loads(answer["table"])[0]
    (as_dict,), (as_bytes,) = json.loads(answer["dicts"]), json.loads(answer["bytes"])
    assert as_dict == first
    assert {**as_bytes, "path": first["path"]} == first


def test_anything_else_raises_and_is_never_zero_rows(answer):
    assert set(answer["refused"].values()) <= {"TypeError", "ValueError", "MlflowException"}
    assert len(answer["refused"]) == 7


def test_loading_does_not_nag_about_type_hints(answer):
    assert answer["warnings"] == []


@pytest.mark.slow
def test_another_ferflow_that_was_imported_before_is_told_apart(registered, tmp_path):
    (tmp_path / "lib" / "fer_core").mkdir(parents=True)
    (tmp_path / "lib" / "fer_core" / "__init__.py").write_text("__version__ = '0.0.1'\n")
    code = HIDE.format(project=str(Path(fer_core.__file__).parents[1])) + (
        f"sys.path.insert(0, {str(tmp_path / 'lib')!r})\n"
        "import fer_core; assert fer_core.__version__ == '0.0.1'\n"
        f"import mlflow; mlflow.pyfunc.load_model({str(registered.artifacts(registered.versions[0]))!r})"
    )
    done = fresh(code, tmp_path)
    assert done.returncode != 0
    assert "ferflow 0.0.1 at" in done.stderr and "load the model in a fresh process" in done.stderr


@pytest.mark.parametrize(
    ("name", "version"), [("cv2", "5.0.0"), ("cv2", "4.11.0"), ("torch", "2.9.1+cpu"), ("av", "17.1.0")]
)
def test_fault_117_packages_outside_their_range_are_refused(monkeypatch, name, version):
    monkeypatch.setattr(sys.modules.get(name) or __import__(name), "__version__", version)
    with pytest.raises(RuntimeError, match=rf"{name} is {version.replace('+', '.')}, this model needs >= "):
        pyfunc.check_packages()


def test_fault_111_oversized_video_is_refused_before_it_is_stored(registered, tmp_path):
    from fer_core.config import LimitsConfig

    model = pyfunc.EmotionModel()
    model.scorer = ClipScorer(registered.bundles[0], limits=LimitsConfig(max_bytes=10))
    item = model._item({"video": b"x" * 11}, tmp_path / "0")
    assert item.refused.status == "too_large" and not list(tmp_path.iterdir())


@pytest.mark.slow
def test_requirements_name_whatever_scoring_imports(paths, registered, tmp_path):
    """Packages that the loaded files of the library import, and that scoring a clip has really loaded."""
    folder = str(registered.artifacts(registered.versions[0]) / "artifacts")
    code = (
        "import json, sys; from pathlib import Path; from fer_core.scoring.scorer import ClipScorer;"
        "from fer_core.models.bundle import read_bundle;"
        f"ClipScorer(read_bundle(Path({folder!r}))).score({paths[0]!r});"
        "print(json.dumps([[m.__file__ for n, m in sys.modules.items() if n.startswith('fer_core') and m.__file__],"
        " sorted({n.split('.')[0] for n in sys.modules})]))"
    )
    done = fresh(code, tmp_path, PYTHONPATH=str(Path(fer_core.__file__).parents[1]))
    files, loaded = json.loads(done.stdout)
    imported = set()
    for file in [*files, str(Path(fer_core.__file__).parent / "preprocess" / "sandbox.py")]:
        for node in ast.walk(ast.parse(Path(file).read_text())):
            if isinstance(node, ast.Import):
                imported |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                imported.add(node.module.split(".")[0])
    owners = metadata.packages_distributions()
    needed = {
        owners[name][0].lower().replace("_", "-")
        for name in imported & set(loaded)
        if name in owners and name not in sys.stdlib_module_names and name != "fer_core"
    }
    assert needed <= set(REQUIREMENTS), needed - set(REQUIREMENTS)
