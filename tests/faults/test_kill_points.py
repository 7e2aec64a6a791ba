"""Mining, merging and training that are killed at any moment end with what an undisturbed process gives."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file, save_file

from mining.backbones.registry import spec_of
from mining.config import MineSettings, TrainSettings
from mining.models.card import CARD_FILE, WEIGHTS_FILE
from mining.runs.run import Run
from tests.factories import register_tiny_backbone, write_photos
from tests.faults.kill_injection import count_kill_points, draw_kills, run_in_process, run_mine, run_train
from tests.unit.engine.painting import crowd, list_painted, painted_model, write_corpus

TABLES = ("annotations.parquet", "corpus.parquet", "curves.parquet", "rankings.parquet", "quarantine.parquet")


@pytest.mark.parametrize("kills", [2, pytest.param(36, marks=pytest.mark.slow)])
def test_a_run_killed_at_any_moment_ends_with_the_same_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kills: int, count_fault: Callable[..., None]
) -> None:
    list_painted(monkeypatch)
    pictures = {**crowd(), "broken.png": b"no image"}
    corpus = write_corpus(tmp_path, pictures, None)
    model = painted_model(tmp_path / "model")
    given = {**corpus, "model": str(model), "scales": (1.0, 1.5), "shard_size": 3, "device": "cpu", "workers": 2}
    settings = {name: MineSettings(**given, out=tmp_path / name).model_dump_json() for name in ("whole", "killed")}
    kill_points = count_kill_points(run_mine, settings["whole"], count_file=tmp_path / "count.json")
    run = Run(tmp_path / "killed")
    killed = 0
    for kill in [*draw_kills(kills, kills, kill_points, seconds=1.0), {}]:
        code = run_in_process(run_mine, settings["killed"], **kill)
        if code == 0:  # it ended before that moment or was not killed: check it, and start another one
            for name in TABLES:
                assert pq.read_table(tmp_path / "whole" / name).equals(pq.read_table(run.path / name)), name
            for name in ("whole", "killed"):
                assert json.loads((tmp_path / name / "annotations.json").read_text())["annotations"]
            assert not list(run.path.rglob(".tmp-*"))
            shutil.rmtree(run.path)
        else:
            killed += code == -9
            assert not run.has_started() or run.record["state"] in ("running", "stopped", "finished")
    assert killed >= kills // 2
    count_fault("kill -9 while mining and merging", killed)


@pytest.mark.parametrize("freeze", [pytest.param(False, marks=pytest.mark.slow), True])
@pytest.mark.parametrize("kills", [2, pytest.param(20, marks=pytest.mark.slow)])
def test_a_training_killed_at_any_moment_ends_with_the_same_weights(
    tmp_path: Path, kills: int, freeze: bool, count_fault: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a frozen backbone, its features are kept in files as well."""
    register_tiny_backbone(monkeypatch)
    torch.manual_seed(0)
    save_file(spec_of("tiny").build_network().state_dict(), tmp_path / "tiny.safetensors")
    for name in ("cat", "dog"):
        write_photos(tmp_path / "photos" / name, [f"{name}-{number}.jpg" for number in range(8)])
    given = {
        "images": tmp_path / "photos", "backbone": "tiny", "weights": str(tmp_path / "tiny.safetensors"), "freeze": freeze, "epochs": 5,
        "batch_size": 4, "workers": 0, "accelerator": "cpu",
    }  # fmt: skip
    settings = {name: TrainSettings(**given, out=tmp_path / name).model_dump_json() for name in ("whole", "killed")}
    kill_points = count_kill_points(run_train, settings["whole"], count_file=tmp_path / "count.json")
    killed, out = 0, tmp_path / "killed"
    whole = {name: value.tolist() for name, value in load_file(tmp_path / "whole" / WEIGHTS_FILE).items()}
    for kill in [*draw_kills(kills, kills, kill_points, seconds=6.0), {}]:
        code = run_in_process(run_train, settings["killed"], **kill)
        killed += code == -9
        if (out / CARD_FILE).exists():  # a folder with a card is complete
            assert {name: value.tolist() for name, value in load_file(out / WEIGHTS_FILE).items()} == whole
        if code == 0:
            assert not list(out.rglob(".tmp-*"))
            shutil.rmtree(out)
    assert killed >= kills // 2
    count_fault("kill -9 while training", killed)
