"""A bootstrap that is killed or interrupted in any step ends with the boxes of an undisturbed one."""

import json
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from flows.cli.application import run_command
from mining.config.bootstrap import BootstrapSettings
from mining.runs.run import Run
from mining.synthetic import generate
from tests.faults.kill_injection import count_kill_points, run_bootstrap, run_in_process
from tests.processes import start_boxmine, wait_until

TABLES = ("annotations.parquet", "corpus.parquet", "quarantine.parquet")
STEPS = (
    ("the localizer learns", "round-0/model/model.json"),
    ("mining", "round-0/annotations.parquet"),
    ("the detector learns", "detector-1/model.json"),
    ("mining with the detector", "round-1/annotations.parquet"),
    ("conclusion", "bootstrap.json"),
)


@pytest.fixture
def values(tmp_path: Path) -> dict[str, Any]:
    """A recipe of the tiny backbone, without `out`."""
    generate(tmp_path / "corpus", images=10, seed=0, size=(64, 80))
    corpus = tmp_path / "corpus"
    return {
        "corpus": {"images": str(corpus / "images"), "labels": str(corpus / "labels.csv")},
        "truth": str(corpus / "truth.json"),
        "train": {
            "backbone": "tiny", "weights": "none", "epochs": 2, "cells": False, "freeze": False, "workers": 0,
            "accelerator": "cpu",
        },
        "mine": {"device": "cpu", "workers": 1, "shard_size": 4},
        "detector": {
            "backbone": "tiny", "weights": "none", "frozen_stages": 0, "side": 64, "channels": 64, "convolutions": 1,
            "epochs": 3, "workers": 0, "device": "cpu",
        },
    }  # fmt: skip


def step_of(out: Path) -> str:
    """Return the step that a bootstrap is in, by what it has finished."""
    return next((step for step, result in STEPS if not (out / result).exists()), "after the end")


def files_of(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def assert_equal_bootstraps(first: Path, second: Path) -> None:
    for run in ("round-0", "round-1"):
        for name in TABLES:
            assert (first / run / name).read_bytes() == (second / run / name).read_bytes(), f"{run}/{name}"
    for model in ("round-0/model", "detector-1"):
        weights = [(folder / model / "weights.safetensors").read_bytes() for folder in (first, second)]
        assert weights[0] == weights[1], model
    records = [json.loads((folder / "bootstrap.json").read_text()) for folder in (first, second)]
    for name in ("run", "detector", "reason", "rounds"):
        assert records[0][name] == records[1][name], name
    assert files_of(first) == files_of(second), "nothing is left over"


@pytest.mark.parametrize("kills", [2, pytest.param(25, marks=pytest.mark.slow)])
def test_a_bootstrap_killed_in_any_step_ends_with_the_same_boxes(
    values: dict[str, Any], tmp_path: Path, kills: int, count_fault: Callable[..., None]
) -> None:
    whole, out = tmp_path / "whole", tmp_path / "killed"
    settings = {folder: BootstrapSettings(**values, out=folder).model_dump_json() for folder in (whole, out)}
    points = count_kill_points(run_bootstrap, settings[whole], count_file=tmp_path / "count.json")
    assert len(Run(whole / "round-1").read_annotations()) > 5
    killed_in = []
    for number in range(kills):
        # evenly over an undisturbed bootstrap; each is resumed and, if there are many, killed there as well
        point = 1 + (2 * number + 1) * (points - 1) // (2 * kills)
        assert run_in_process(run_bootstrap, settings[out], kill_point=point) == -9
        killed_in.append(step_of(out))
        if number % 3 == 2:
            run_in_process(run_bootstrap, settings[out], kill_point=point // 2)
        assert run_in_process(run_bootstrap, settings[out]) == 0
        assert_equal_bootstraps(whole, out)
        shutil.rmtree(out)
    assert len(set(killed_in)) >= min(kills, 4), killed_in
    count_fault("kill -9 of `boxmine bootstrap`", kills)


@pytest.mark.slow
def test_a_bootstrap_killed_around_its_record_writes_it_once_when_run_again(
    values: dict[str, Any], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    settings = BootstrapSettings(**values, out=out).model_dump_json()
    points = count_kill_points(run_bootstrap, settings, count_file=tmp_path / "count.json")
    record = json.loads((out / "bootstrap.json").read_text())
    written = files_of(out)
    half_written = 0
    for point in range(points - 7, points):
        shutil.rmtree(out)
        assert run_in_process(run_bootstrap, settings, kill_point=point) in (-9, 0)  # the first process wrote caches
        half_written += bool(list(out.glob(".tmp-*-bootstrap.json")))
        assert run_in_process(run_bootstrap, settings) == 0
        again = json.loads((out / "bootstrap.json").read_text())
        assert {**record, "at": None} == {**again, "at": None}
        assert files_of(out) == written
    assert half_written, "one of the kills is while the record is written"


@pytest.mark.parametrize(
    "moment",
    [
        pytest.param("round-0/model/checkpoints", marks=pytest.mark.slow),
        pytest.param("round-0/parts", marks=pytest.mark.slow),
        "detector-1/checkpoints",
        pytest.param("round-1/parts", marks=pytest.mark.slow),
    ],
)
def test_ctrl_c_ends_with_code_4_and_the_same_command_resumes(
    values: dict[str, Any], tmp_path: Path, moment: str
) -> None:
    own = {"backbone": "efficientnet_lite0", "weights": "imagenet"}
    detector = {**values["detector"], **own, "frozen_stages": 3, "epochs": 4}
    recipe = tmp_path / "recipe.yaml"
    train = {**values["train"], **own, "input_size": 64}
    recipe.write_text(yaml.safe_dump({**values, "out": "out", "train": train, "detector": detector}))
    out = tmp_path / "out"
    process = start_boxmine("bootstrap", recipe)
    wait_until(lambda: process.poll() is not None or (out / moment).exists(), timeout_s=300)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=300)
    assert process.returncode == 4, said
    assert "run the same command again" in " ".join(said.split())
    assert "Traceback" not in said
    assert not (out / "bootstrap.json").exists()
    assert run_command(["bootstrap", str(recipe)]) == 0
    assert len(Run.open(out / "round-1", finished=True).read_annotations()) > 5
    assert not [path for path in files_of(out) if ".tmp-" in path or "checkpoints" in path]
