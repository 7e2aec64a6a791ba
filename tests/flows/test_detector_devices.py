"""Training of detectors on several devices: here they are CPU processes, which Lightning starts as it does for GPUs."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file
from torch import testing

from mining.config.proof import ProofSettings
from mining.errors import InputError, ProcessLostError
from mining.models.card import read_card
from mining.proof.folder import detector_of
from mining.proof.trainings import Training
from mining.training.history import read_history
from tasks.proving import train_on_boxes
from tests.processes import find_descendants, wait_until, wait_until_gone
from tests.unit.export.conftest import Painted, write_run
from tests.unit.proof.conftest import CAT, DOG, complete, write_truth

TIMEOUT_S = 300.0
MINED = Training("mined", 0)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of 10 images of one size with none, one, two or three boxes, so that devices have unequal numbers."""
    folder = tmp_path_factory.mktemp("corpus")
    boxes = ((DOG, 4, 4, 30, 26, 0.9), (CAT, 36, 2, 20, 18, 0.8), (DOG, 38, 24, 16, 14, 0.7))
    images = [
        Painted(f"{number:02}.png", boxes[: number % 4], labels=("dog", "cat & <mouse>")[: min(2, number % 4)])
        for number in range(10)
    ]
    complete(write_run(folder, images).folder)
    write_truth(folder / "truth.json", [one for one in images if one.boxes])
    return folder


def settings_for(corpus: Path, out: Path, **changes: Any) -> ProofSettings:
    """A proof of the mined boxes alone.

    Without crops, after which images have unequal sizes: a device pads its images to the largest of them.
    """
    detector = {
        "side": 64, "channels": 64, "convolutions": 1, "epochs": 2, "batch_size": 4, "crop": False, "warm_up": 0,
        "precision": "32-true", "workers": 0, "device": "cpu", "devices": 2,
    }  # fmt: skip
    return ProofSettings(
        out=out, runs=corpus / "run", test={"images": corpus / "photos", "truth": corpus / "truth.json"},
        detector={**detector, **changes}, seeds=(0,), arms=("mined",), budget=(),
    )  # fmt: skip


def train(settings: ProofSettings) -> Path:
    """Train the detector of the mined boxes; returns its folder."""
    assert train_on_boxes(settings, MINED) > 0
    return detector_of(settings, MINED)


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "ema_decay"), [("fcos", 0.0), ("fcos", 0.5), ("retinanet", 0.0)])
def test_two_devices_give_the_weights_of_one(corpus: Path, tmp_path: Path, kind: str, ema_decay: float) -> None:
    alone = train(settings_for(corpus, tmp_path / "one", devices=1, kind=kind, ema_decay=ema_decay))
    both = train(settings_for(corpus, tmp_path / "two", kind=kind, ema_decay=ema_decay))
    assert not find_descendants(os.getpid(), "tasks.trainer")
    # AdamW moves each weight by about its rate (0.001, in 4 steps), whatever the size of the gradient: where that is next
    # to nothing, the order of a sum decides. Measured: 6e-6 and 3e-5; 7e-4 where devices divide by their own boxes.
    testing.assert_close(
        load_file(both / "weights.safetensors"), load_file(alone / "weights.safetensors"), rtol=0, atol=1e-4
    )
    losses = [[float(row["train_loss"]) for row in read_history(folder / "history.csv")] for folder in (alone, both)]
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)
    assert sorted(path.name for path in both.iterdir()) == sorted(path.name for path in alone.iterdir())
    assert train(settings_for(corpus, tmp_path / "two", kind=kind, ema_decay=ema_decay, devices=1)) == both, (
        "devices decide no weight"
    )


@pytest.mark.slow
def test_faster_rcnn_whose_devices_draw_their_own_regions_is_trained_on_two(corpus: Path, tmp_path: Path) -> None:
    folder = train(settings_for(corpus, tmp_path / "out", kind="faster-rcnn"))
    assert all(value.isfinite().all() for value in load_file(folder / "weights.safetensors").values())


@pytest.mark.slow
def test_a_device_without_a_readable_image_waits_for_the_others(tmp_path: Path) -> None:
    boxes = ((DOG, 4, 4, 30, 26, 0.9),)
    images = [Painted(f"{number}.png", boxes, labels=("dog",)) for number in range(4)]
    complete(write_run(tmp_path, images).folder)
    write_truth(tmp_path / "truth.json", images)
    (tmp_path / "photos" / "1.png").write_bytes(b"no image")
    folder = train(settings_for(tmp_path, tmp_path / "out", batch_size=2))
    assert [Path(name).name for name in read_card(folder).training["unreadable"]] == ["1.png"]
    assert all(value.isfinite().all() for value in load_file(folder / "weights.safetensors").values())


def wait_for_epoch(folder: Path, epoch: int) -> None:
    """Wait for the end of an epoch."""
    wait_until(lambda: len(read_history(folder / "history.csv")) >= epoch, timeout_s=TIMEOUT_S, poll_s=0.05)


@pytest.mark.slow
@pytest.mark.parametrize("victim", ["the command", "the first device's process", "the second device's process"])
def test_killing_any_process_of_a_training_ends_all_and_the_same_command_resumes(
    corpus: Path, tmp_path: Path, victim: str, count_fault: Callable[..., None]
) -> None:
    settings = settings_for(corpus, tmp_path / "proof", epochs=12)
    folder = detector_of(settings, MINED)
    code = (
        "from flows.prove import prove, ProofSettings; "
        f"prove(ProofSettings.model_validate_json({settings.model_dump_json(exclude_unset=True)!r}))"
    )
    command = subprocess.Popen([sys.executable, "-P", "-c", code], stderr=subprocess.PIPE, text=True)
    wait_for_epoch(folder, 2)
    trainers = find_descendants(command.pid, "tasks.trainer")
    assert len(trainers) == 2
    pid = {"the command": command.pid, "the first device's process": min(trainers)}.get(victim, max(trainers))
    os.kill(pid, signal.SIGKILL)
    _, stderr = command.communicate(timeout=TIMEOUT_S)
    assert command.returncode != 0
    if victim != "the command":
        assert ProcessLostError.__name__ in stderr
    wait_until_gone(trainers)
    done = len(read_history(folder / "history.csv"))
    assert train(settings) == folder
    assert [int(row["epoch"]) for row in read_history(folder / "history.csv")] == list(range(1, 13))
    assert done < 12
    count_fault("kill -9 of a detector's training on two devices")


def test_torchrun_is_refused(corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    with pytest.raises(InputError, match="without torchrun"):
        train_on_boxes(settings_for(corpus, tmp_path / "out"), MINED)
