"""A proof that is killed or interrupted in any step ends with the figures of an undisturbed one."""

import json
import shutil
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml

from mining.config.proof import ProofSettings
from mining.proof.trainings import plan_trainings
from tests.faults.kill_injection import name_kill_points, run_in_process, run_prove
from tests.processes import start_boxmine, wait_until
from tests.unit.proof.conftest import make_corpus

TABLES = ("annotations.parquet", "corpus.parquet", "quarantine.parquet")
LISTING, REVIEW, TRAINING, MINING = "listing the test images", "simulated review", "training", "mining"
FIGURES, PAGE, END = "figures", "page", "after the page"
SHORT: dict[str, Any] = {"arms": ["mined", "audited"], "budget": []}
STEPS = (LISTING, REVIEW, TRAINING, MINING, FIGURES, PAGE, END)


@pytest.fixture
def values(tmp_path: Path) -> dict[str, Any]:
    """A recipe of the tiny backbone, without `out`."""
    make_corpus(tmp_path / "train")
    make_corpus(tmp_path / "test")
    return {
        "runs": str(tmp_path / "train" / "run"),
        "truth": str(tmp_path / "train" / "truth.json"),
        "test": {"images": str(tmp_path / "test" / "photos"), "truth": str(tmp_path / "test" / "truth.json")},
        "detector": {
            "backbone": "tiny", "weights": "none", "frozen_stages": 0, "side": 64, "channels": 64, "convolutions": 1,
            "epochs": 3, "batch_size": 4, "workers": 0, "device": "cpu", "learning_rate": 0.01,
        },
        "seeds": [0], "arms": ["true", "mined", "audited"], "budget": [4], "verdicts": 6, "resamples": 100,
    }  # fmt: skip


def step_of(settings: str) -> str:
    """Return the step that a proof is in, by what it has finished."""
    proof = ProofSettings.model_validate_json(settings)
    if not (proof.out / "test-images.csv").exists():
        return LISTING
    for training in plan_trainings(proof):
        folder = proof.out / training.name
        if training.boxes == "audited" and not list((proof.out / "reviews").glob("[!.]*")):
            return REVIEW
        for result, step in ((folder / "detector" / "model.json", TRAINING), (folder / "test" / TABLES[0], MINING)):
            if not result.exists():
                return step
    return next(
        (step for name, step in (("proof.json", FIGURES), ("proof.html", PAGE)) if not (proof.out / name).exists()), END
    )


def files_of(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def figures_of(out: Path) -> dict[str, Any]:
    record = json.loads((out / "proof.json").read_text())
    return {**record, "at": None, "settings": {**record["settings"], "out": None}}


def assert_equal_proofs(first: Path, second: Path) -> None:
    assert figures_of(first) == figures_of(second)
    assert (first / "proof.html").read_text() == (second / "proof.html").read_text()
    assert files_of(first) == files_of(second), "nothing is left over, and nothing is made twice"
    for name in files_of(first):
        if name.endswith((*TABLES, "weights.safetensors", "history.csv", "test-images.csv")):
            assert (first / name).read_bytes() == (second / name).read_bytes(), name


def spread(points: list[int], count: int) -> list[int]:
    """So many of the points, evenly over them."""
    return [points[(2 * number + 1) * len(points) // (2 * count)] for number in range(count)]


@pytest.mark.parametrize(
    ("steps", "kills", "changes"),
    [((REVIEW, FIGURES), 1, SHORT), pytest.param(STEPS, 5, {}, marks=pytest.mark.slow)],
    ids=["two", "all"],
)
def test_a_proof_killed_in_any_step_ends_with_the_same_figures(
    values: dict[str, Any],
    tmp_path: Path,
    steps: tuple[str, ...],
    kills: int,
    changes: dict[str, Any],
    count_fault: Callable[..., None],
) -> None:
    whole, out = tmp_path / "whole", tmp_path / "killed"
    settings = {
        folder: ProofSettings(**{**values, **changes}, out=folder).model_dump_json(exclude_unset=True)
        for folder in (whole, out)
    }
    names = name_kill_points(
        run_prove, settings[whole], name=partial(step_of, settings[whole]), count_file=tmp_path / "points.json"
    )
    figures = figures_of(whole)
    assert len(set(map(str, figures["ap50"].values()))) > 1, "kinds of boxes differ, so that a mix-up would show"
    total = 0
    for step in steps:
        points = [number for number, name in enumerate(names, start=1) if name == step]
        for point in spread(points, min(kills, len(points))):
            assert run_in_process(run_prove, settings[out], kill_point=point) == -9
            assert step_of(settings[out]) == step
            if total % 3 == 2:  # killed while it is resumed as well
                run_in_process(run_prove, settings[out], kill_point=max(1, point // 2))
            assert run_in_process(run_prove, settings[out]) == 0
            assert_equal_proofs(whole, out)
            shutil.rmtree(out)
            total += 1
    count_fault("kill -9 of `boxmine prove`", total)


@pytest.mark.slow
@pytest.mark.parametrize(
    "moment",
    ["mined-seed-0/detector/checkpoints", "true-seed-0/test/parts", "reviews", "mined+true-4-seed-0/test"],
)
def test_ctrl_c_ends_with_code_4_and_the_same_command_resumes(
    values: dict[str, Any], tmp_path: Path, moment: str
) -> None:
    own = {"backbone": "efficientnet_lite0", "weights": "imagenet", "frozen_stages": 3}
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(yaml.safe_dump({**values, "out": "out", "detector": {**values["detector"], **own}}))
    out = tmp_path / "out"
    process = start_boxmine("prove", recipe)
    wait_until(lambda: process.poll() is not None or (out / moment).exists(), timeout_s=300)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=300)
    assert process.returncode == 4, said
    assert "run the same command again" in " ".join(said.split())
    assert "Traceback" not in said
    assert not (out / "proof.json").exists()
    resumed = start_boxmine("prove", recipe)
    _, said = resumed.communicate(timeout=300)
    assert resumed.returncode == 0, said
    assert set(figures_of(out)["ap50"]) == {"true", "mined", "audited"}
    assert not [path for path in files_of(out) if ".tmp-" in path or "checkpoints" in path]
