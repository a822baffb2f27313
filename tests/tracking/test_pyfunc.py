"""The model as downstream users load it: a process that has never heard of this project."""

from __future__ import annotations

import ast
import base64
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import requests
import torch
from mlflow.exceptions import MlflowException

import fer_core
from fer_core.config import ScoreConfig
from fer_core.errors import ConfigError, RegistryError
from fer_core.models.engine import on_engine
from fer_core.runtime import child_environment, n_cores
from fer_core.scoring.scorer import ClipScorer
from fer_core.tracking import pyfunc
from fer_core.tracking.packing import REQUIREMENTS
from mlflow_server.address import answers
from tests.conftest import free_port
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


def load_model(folder, **options):
    import mlflow.pyfunc

    return mlflow.pyfunc.load_model(str(folder), **options)


def fresh(code: str, cwd: Path, **env: str) -> subprocess.CompletedProcess[str]:
    """Run code in a process that nobody has prepared for torch, or pointed at an MLflow."""
    ours = {*child_environment(1), "MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI"}
    return subprocess.run(
        [sys.executable, "-P", "-c", code],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=300,
        env={**{name: value for name, value in os.environ.items() if name not in ours}, **env},
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
    scorer = ClipScorer(on_engine(registered.bundles[0]))
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


@pytest.fixture(scope="module")
def model(registered):
    """The model loaded in this process, whose library is the same."""
    return load_model(registered.artifacts(registered.versions[0]), model_config={"device": "cpu"})


@pytest.fixture(scope="module")
def long_film(tmp_path_factory) -> Path:
    """20 frames, so 10 are selected."""
    return write_video(tmp_path_factory.mktemp("long") / "long.mp4", face_frames(20))


@pytest.fixture
def ask(model, monkeypatch):
    """What MLflow's own scoring server answers to rows: status and body."""
    from fastapi.testclient import TestClient
    from mlflow.pyfunc import scoring_server

    monkeypatch.setenv("_MLFLOW_IS_IN_SERVING_ENVIRONMENT", "")  # the server sets it; undone afterwards
    client = TestClient(scoring_server.init(model))

    def post(*rows, **params):
        body = {"dataframe_records": list(rows)} | ({"params": params} if params else {})
        answer = client.post("/invocations", json=body)
        return answer.status_code, answer.text

    return post


def test_served_model_reads_no_path_unless_told_where(ask, paths, monkeypatch):
    monkeypatch.delenv("FERFLOW_SCORE_ROOT", raising=False)
    status, text = ask({"path": "/etc/passwd"}, {"path": paths[0]}, {"path": "/nowhere"})
    rows = json.loads(text)["predictions"]
    assert status == 200 and {row["status"] for row in rows} == {"rejected"}
    assert all(row["reason"].startswith("this server reads no paths, FERFLOW_SCORE_ROOT is not set") for row in rows)


def test_served_model_reads_below_its_root_alone_and_tells_nothing_of_the_rest(ask, paths, monkeypatch):
    root = Path(paths[0]).parent
    (root / "secret.mp4").write_text("PASSWORD=hunter2 and more")
    (root / "way-out").symlink_to("/etc")
    monkeypatch.setenv("FERFLOW_SCORE_ROOT", str(root))
    outside = ["/etc/passwd", "/nowhere", "../x.mp4", "way-out/passwd", str(root.parent)]
    status, text = ask(*({"path": p} for p in ["good.mp4", paths[0], "secret.mp4", *outside]))
    rows = json.loads(text)["predictions"]
    assert status == 200 and [row["path"] for row in rows] == ["good.mp4", paths[0], "secret.mp4", *outside]
    assert [row["status"] for row in rows] == ["ok", "ok", "unsupported"] + ["rejected"] * len(outside)
    assert {row["reason"] for row in rows[3:]} == {"it lies outside FERFLOW_SCORE_ROOT"}
    assert "PASSWORD" not in text


@pytest.fixture(scope="module")
def served(registered, paths, tmp_path_factory) -> Iterator[Callable[[object], tuple[int, str]]]:
    """`mlflow models serve` itself, as docs/servers.md has it: what it answers to a body, status and text."""
    port, programs = free_port(), Path(sys.executable).parent
    command = [programs / "mlflow", "models", "serve", "-m", f"models:/face-emotion/{registered.versions[0]}"]
    environment = {
        "MLFLOW_TRACKING_URI": registered.tracking.uri,
        "FERFLOW_SCORE_ROOT": str(Path(paths[0]).parent),
        "PATH": f"{programs}:{os.environ['PATH']}",  # it runs `uvicorn`
    }
    log = tmp_path_factory.mktemp("served") / "log"
    with log.open("w") as out:
        server = subprocess.Popen(
            [*map(str, command), "-p", str(port), "--env-manager", "local"], env={**os.environ, **environment},
            stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True,
        )  # fmt: skip
    try:
        deadline = time.monotonic() + 400
        while not answers(f"http://127.0.0.1:{port}/health"):
            assert server.poll() is None and time.monotonic() < deadline, log.read_text()
            time.sleep(0.5)

        def post(body: object) -> tuple[int, str]:
            response = requests.post(f"http://127.0.0.1:{port}/invocations", json=body, timeout=100)
            return response.status_code, response.text

        yield post
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_mlflow_serves_the_model_below_its_root_alone(served, paths):
    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    asked = [{"path": path} for path in (paths[0], "/etc/shadow", paths[1])]
    status, text = served({"dataframe_records": asked})
    assert status == 200, text
    good, outside, faceless = json.loads(text, parse_constant=refuse)["predictions"]
    assert good["status"] == "ok" and good["emotion"] and 0 < good["happiness"] < 1
    assert outside["reason"] == "it lies outside FERFLOW_SCORE_ROOT" and outside["emotion"] is None
    assert faceless["status"] == "no_face" and faceless["happiness"] is None


@pytest.mark.slow
@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ({"dataframe_records": [{"clip": "a.mp4"}]}, "path"),
        ({"dataframe_records": [{"path": "a.mp4"}], "params": {"max_frames": "some"}}, "max_frames"),
        ({"inputs": {}}, "path"),
    ],
    ids=["column", "param", "empty"],
)
def test_mlflow_answers_wrong_input_with_400_and_a_sentence(served, body, sentence):
    status, text = served(body)
    told = json.loads(text)
    assert status == 400 and sentence in told["message"] and "Traceback" not in told["message"], text


def test_row_without_a_verdict_is_null_in_json_and_nan_in_a_table(ask, model, paths):
    video = {"video": base64.b64encode(Path(paths[1]).read_bytes()).decode()}
    status, text = ask(video)
    assert status == 200 and "NaN" not in text
    (row,) = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))["predictions"]
    assert (row["status"], row["confidence"], row["surprise"], row["emotion"]) == ("no_face", None, None, None)
    os.environ["_MLFLOW_IS_IN_SERVING_ENVIRONMENT"] = ""
    table = model.predict(pd.DataFrame({"path": [paths[1]]}))
    assert np.isnan(table["confidence"][0]) and table["confidence"].dtype == float


def test_root_holds_where_nothing_is_served_too(model, paths, monkeypatch):
    monkeypatch.setenv("FERFLOW_SCORE_ROOT", str(Path(paths[0]).parent))
    rows = model.predict(pd.DataFrame({"path": ["good.mp4", "/etc/passwd", "http://x/a.mp4"]}))
    assert list(rows["status"]) == ["ok", "rejected", "rejected"]
    assert list(rows["reason"][1:]) == ["it lies outside FERFLOW_SCORE_ROOT", "it is an address, not a file"]


@pytest.mark.parametrize(
    ("params", "sentence"),
    [
        ({"max_frames": -2}, "param 'max_frames' is -2: Input should be greater than or equal to -1"),
        ({"rule": "best"}, "param 'rule' is 'best': Input should be 'auto', 'majority_vote', .*"),
        ({"windows": -1.0}, "param 'windows' is -1.0: Input should be greater than or equal to 0"),
        ({"device": "tpu"}, "param 'device' is 'tpu': Input should be .*"),
        ({"device": "mps"}, "param 'device' is 'mps', but torch sees no Apple GPU; use 'auto' or 'cpu'"),
        ({"framez": 2}, "there is no param 'framez'; there are rule, max_frames, device, windows"),
    ],
)
def test_unknown_params_and_values_are_refused_in_one_sentence(model, ask, paths, params, sentence):
    with pytest.raises(MlflowException, match=f"^{sentence}$"):
        model.predict(pd.DataFrame({"path": paths[:1]}), params=params)
    status, text = ask({"path": "x"}, **params)
    assert status == 400 and re.search(sentence, json.loads(text)["message"]) and "Traceback" not in text


def test_param_of_another_type_is_refused(model, ask, paths):
    status, text = ask({"path": "x"}, max_frames="many")
    assert status == 400 and "max_frames" in json.loads(text)["message"]


def test_signature_names_the_params_and_their_types(model):
    params = {param.name: (param.dtype.name, param.default) for param in model.metadata.get_params_schema()}
    assert params == {
        "rule": ("string", "auto"), "max_frames": ("long", -1), "device": ("string", "auto"),
        "windows": ("double", 0.0),
    }  # fmt: skip


def test_all_frames_are_read_where_params_ask_for_them(model, ask, long_film, registered, monkeypatch):
    monkeypatch.setenv("FERFLOW_SCORE_ROOT", str(long_film.parent))
    clip = pd.DataFrame({"path": [str(long_film)]})
    assert registered.bundles[0].facts.preprocess.max_frames == 6
    assert list(model.predict(clip)["frames"]) == list(model.predict(clip, params={"max_frames": -1})["frames"]) == [6]
    assert list(model.predict(clip, params={"max_frames": 0})["frames"]) == [10]
    assert list(model.predict(clip, params={"max_frames": 3})["frames"]) == [3]
    video = {"video": base64.b64encode(long_film.read_bytes()).decode()}
    (row,) = json.loads(ask(video, max_frames=0)[1])["predictions"]
    assert row["frames"] == 10


def test_windows_of_the_params_are_verdicts_over_time(model, ask, long_film, paths, registered, monkeypatch):
    monkeypatch.setenv("FERFLOW_SCORE_ROOT", str(long_film.parent))
    clip = pd.DataFrame({"path": [str(long_film)]})
    assert model.predict(clip)["windows"][0] is None
    windows = model.predict(clip, params={"windows": 0.2})["windows"][0]
    own = ClipScorer(on_engine(registered.bundles[0]), ScoreConfig(windows={"length_s": 0.2})).score(long_film).windows
    assert [w["start_s"] for w in windows] == own.start_s.tolist() and len(windows) > 1
    assert [w["confidence"] for w in windows] == pytest.approx(own.confidence.tolist())
    video = {"video": base64.b64encode(long_film.read_bytes()).decode()}
    (row,) = json.loads(ask(video, windows=0.2)[1])["predictions"]
    assert [w["emotion"] for w in row["windows"]] == [w["emotion"] for w in windows]
    nobody = {"video": base64.b64encode(Path(paths[1]).read_bytes()).decode()}
    (row,) = json.loads(ask(nobody, windows=0.2)[1])["predictions"]
    assert (row["status"], row["windows"]) == ("no_face", None)


def test_rule_of_the_params_joins_the_frames(model, long_film, registered):
    clip = pd.DataFrame({"path": [str(long_film)]})
    votes = model.predict(clip, params={"rule": "majority_vote"}).iloc[0]
    row = ClipScorer(on_engine(registered.bundles[0]), ScoreConfig(rule="majority_vote")).score(long_film)
    assert np.allclose([votes[str(c)] for c in row.classes], row.probabilities, atol=1e-6)


def test_gpu_that_is_asked_for_and_missing_is_told(registered):
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(ConfigError, match=r"model_config device is 'cuda', but torch sees no GPU; use 'auto' or 'cpu'"):
        load_model(registered.artifacts(registered.versions[0]), model_config={"device": "cuda"})


@pytest.mark.skipif(torch.cuda.is_available(), reason="the convolutions would load")
def test_gpu_is_taken_when_there_is_one(registered, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    with pytest.raises(RegistryError, match=r"CUDA|NVIDIA"):  # tried, and there is none
        load_model(registered.artifacts(registered.versions[0]))


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


def test_fault_111_oversized_video_is_refused_before_it_is_stored(tmp_path):
    item = pyfunc._item({"video": b"x" * 11}, tmp_path / "0", max_bytes=10)
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
