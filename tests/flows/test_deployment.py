"""The deployment file does what it says: registered at a real server, executed once by a real worker."""

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mining.synthetic import generate

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.server


def prefect(*arguments: str, environment: dict[str, str], cwd: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "prefect", "--no-prompt", *arguments],
        env=environment, cwd=cwd, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_worker_executes_the_registered_deployment_once(prefect_environment: dict[str, str], tmp_path: Path) -> None:
    for name in ("flows", "tasks", "mining", "deployments"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    generate(tmp_path / "photos", images=12, seed=3)
    environment = {**prefect_environment, "BOXMINE_HOME": str(tmp_path)}
    prefect("work-pool", "create", "boxes", "--type", "process", environment=environment, cwd=tmp_path)
    prefect("deploy", "--prefect-file", "deployments/prefect.yaml", "--all", environment=environment, cwd=tmp_path)

    settings = {
        "out": "runs/once",
        "corpus": {"images": "photos/images", "labels": "photos/labels.csv"},
        "train": {"epochs": 1, "workers": 0, "validation_share": 0},
        "mine": {"scales": [1.0]},
        "truth": "photos/truth.json",
    }
    prefect(
        "deployment", "run", "boxmine-run/nightly", "--params", json.dumps({"settings": settings}),
        environment=environment, cwd=tmp_path,
    )  # fmt: skip
    worker = [sys.executable, "-m", "prefect", "worker", "start", "--pool", "boxes", "--run-once"]
    with (tmp_path / "worker.log").open("w") as log:
        subprocess.run(worker, env=environment, cwd=tmp_path, stdout=log, stderr=subprocess.STDOUT, timeout=400)

    state = ""
    deadline = time.monotonic() + 180
    while "COMPLETED" not in state and "FAILED" not in state and time.monotonic() < deadline:
        state = prefect("flow-run", "ls", "--limit", "5", environment=environment, cwd=tmp_path).upper()
    assert "COMPLETED" in state, state + (tmp_path / "worker.log").read_text()[-3000:]
    assert json.loads((tmp_path / "runs/once/run.json").read_text())["state"] == "finished"
    assert (tmp_path / "runs/once/scores.json").exists()
    assert (tmp_path / "runs/once/report/index.html").exists()
    shown = prefect("artifact", "ls", environment=environment, cwd=tmp_path)
    for key in ("train", "mine", "scores", "report"):
        assert f" {key} " in shown, shown


def test_the_schedule_and_the_form_are_registered(prefect_environment: dict[str, str], tmp_path: Path) -> None:
    shown = prefect(
        "deployment",
        "inspect",
        "boxmine-run/nightly",
        "--output",
        "json",
        environment=prefect_environment,
        cwd=tmp_path,
    )
    deployment = json.loads(shown)
    assert deployment["schedules"][0]["schedule"]["cron"] == "0 2 * * *"
    form = deployment["parameter_openapi_schema"]["definitions"]
    assert form["MineOptions"]["properties"]["threshold"]["description"]
