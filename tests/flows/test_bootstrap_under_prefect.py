"""`boxmine bootstrap` under Prefect, with its embedded server."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from flows.cli.application import run_command
from mining.config.bootstrap import BootstrapSettings
from mining.synthetic import generate

BACKBONE = "efficientnet_lite0"  # the localizer learns in a process of its own, without backbones of tests


def write_recipe(folder: Path) -> Path:
    """Write a recipe of small images, without `detector.workers`: one loader process per core, without Prefect."""
    generate(folder / "corpus", images=12, seed=0, size=(64, 80))
    values = {
        "out": "rounds",
        "corpus": {"images": "corpus/images", "labels": "corpus/labels.csv"},
        "train": {"backbone": BACKBONE, "input_size": 64, "epochs": 1, "cells": False, "workers": 0},
        "mine": {"device": "cpu", "workers": 1},
        "detector": {
            "backbone": BACKBONE, "side": 64, "channels": 64, "convolutions": 1, "epochs": 1, "device": "cpu",
        },
    }  # fmt: skip
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


@pytest.mark.slow
def test_under_prefect_the_rounds_are_tasks_and_the_detector_learns_without_loader_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from prefect.client.orchestration import get_client
    from prefect.testing.utilities import prefect_test_harness

    from flows.running import STARTUP_TIMEOUT_S
    from mining.bootstrap import rounds

    given = []

    def train_on_run(settings: BootstrapSettings, *arguments: Any) -> int:
        given.append(settings.detector.workers)
        return train(settings, *arguments)

    train = rounds.train_on_run
    monkeypatch.setattr(rounds, "train_on_run", train_on_run)
    monkeypatch.setenv("BOXMINE_PREFECT", "1")
    with prefect_test_harness(server_startup_timeout=int(STARTUP_TIMEOUT_S)):
        assert run_command(["bootstrap", str(write_recipe(tmp_path))]) == 0
        with get_client(sync_client=True) as client:
            flows = {run.state_name for run in client.read_flow_runs() if run.name.startswith("bootstrap")}
            tasks = {run.name.rsplit("-", 1)[0]: run.state_name for run in client.read_task_runs()}
            (artifact,) = (one for one in client.read_artifacts() if one.key == "bootstrap")
    assert given == [0]
    assert flows == {"Completed"}, "the server was reached"
    assert {name: tasks.get(name) for name in ("train detector", "judge round", "conclude")} == {
        "train detector": "Completed", "judge round": "Completed", "conclude": "Completed",
    }  # fmt: skip
    (row,) = json.loads(artifact.data)
    found = json.loads((tmp_path / "rounds" / "bootstrap.json").read_text())
    assert (row["round"], row["boxes"]) == (1, found["rounds"][0]["boxes"])
    assert found["detector"].endswith("detector-1")
