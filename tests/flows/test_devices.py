"""Training on several devices: here they are CPU processes, which Lightning starts as it does for GPUs."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from multiprocessing import Pipe
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file
from torch import testing

from flows.train import train
from mining.config import TrainOptions, TrainSettings
from mining.errors import CorpusError, InputError, ProcessLostError
from mining.training.history import read_history
from mining.training.summary import TrainingSummary
from tasks import training_process
from tests.factories import write_photos
from tests.processes import find_descendants, wait_until, wait_until_gone

TIMEOUT_S = 300.0
BROKEN = ("07.jpg", "18.jpg")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """24 images of two classes, some of them unreadable."""
    folder = tmp_path_factory.mktemp("corpus")
    names = [f"{number:02d}.jpg" for number in range(24)]
    write_photos(folder / "images", names)
    for name in BROKEN:
        (folder / "images" / name).write_bytes(b"no photo")
    kinds = ("box", "box|noise", "")
    rows = [f"{name},{kinds[number % 3]}" for number, name in enumerate(names)]
    (folder / "labels.csv").write_text("\n".join(["file_name,labels", *rows]))
    sound = [row for row in rows if not row.startswith(BROKEN)]
    (folder / "sound.csv").write_text("\n".join(["file_name,labels", *sound]))
    return {"images": folder / "images", "labels": folder / "labels.csv"}


def settings_for(corpus: dict[str, Path], out: Path, **changes: Any) -> TrainSettings:
    """Settings of a short training, without dropout because each device draws its own."""
    given: dict[str, Any] = {
        "epochs": 2, "batch_size": 4, "input_size": 64, "optimizer": "sgd", "learning_rate": 0.01,
        "options": {"dropout": 0}, "weights": "none", "freeze": False, "validation_share": 0.2, "workers": 0,
        "accelerator": "cpu", "devices": "2",
    }  # fmt: skip
    return TrainSettings(**corpus, out=out, **{**given, **changes})


def comparable_values(summary: TrainingSummary) -> tuple[Any, ...]:
    return (summary.images, summary.validation_images, summary.epochs, summary.best_epoch, sorted(summary.unreadable))


@pytest.mark.slow
def test_two_devices_give_the_weights_of_one(corpus: dict[str, Path], tmp_path: Path) -> None:
    # frozen, as by default, and readable: batch norm's statistics and the mean loss are each device's own
    same = {"freeze": True, "weights": "imagenet"}
    sound = {**corpus, "labels": corpus["images"].parent / "sound.csv"}
    alone = train(settings_for(sound, tmp_path / "one", devices="1", **same))
    both = train(settings_for(sound, tmp_path / "two", **same))
    assert comparable_values(both) == comparable_values(alone)
    assert both.value == pytest.approx(alone.value)
    testing.assert_close(
        load_file(both.folder / "weights.safetensors"), load_file(alone.folder / "weights.safetensors"),
        rtol=1e-3, atol=1e-4,
    )  # fmt: skip
    rows = [read_history(summary.folder / "history.csv") for summary in (alone, both)]
    assert [float(row["val_loss"]) for row in rows[1]] == pytest.approx(
        [float(row["val_loss"]) for row in rows[0]], abs=1e-4
    )
    assert sorted(path.name for path in both.folder.iterdir()) == sorted(path.name for path in alone.folder.iterdir())
    assert "LOCAL_RANK" not in os.environ, "processes started later are not part of the training"


@pytest.mark.slow
def test_a_device_without_a_readable_image_waits_for_the_others(corpus: dict[str, Path], tmp_path: Path) -> None:
    summary = train(settings_for(corpus, tmp_path / "model", batch_size=2, epochs=1))
    assert sorted(summary.unreadable) == list(BROKEN)
    assert all(value.isfinite().all() for value in load_file(summary.folder / "weights.safetensors").values())


def test_an_error_on_two_devices_is_that_of_one(corpus: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="No labelled image"):
        train(settings_for({**corpus, "labels": Path("none")}, tmp_path / "model"))
    assert not find_descendants(os.getpid(), "tasks.trainer")


def test_torchrun_is_refused(corpus: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    with pytest.raises(InputError, match="without torchrun"):
        train(settings_for(corpus, tmp_path / "model"))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ccam", "nlccam", "ornet", "spg", "mldfr"])
def test_every_localizer_trains_on_two_devices(corpus: dict[str, Path], tmp_path: Path, name: str) -> None:
    summary = train(settings_for(corpus, tmp_path / "model", localizer=name, options={}, epochs=3))
    assert summary.epochs == 3


@pytest.mark.slow
def test_a_run_continues_in_one_process_after_a_training_on_two_devices(
    corpus: dict[str, Path], tmp_path: Path
) -> None:
    recipe = {
        "out": str(tmp_path / "run"),
        "corpus": {name: str(path) for name, path in corpus.items()},
        "train": settings_for(corpus, tmp_path).model_dump(mode="json", include=set(TrainOptions.model_fields)),
        "mine": {"scales": [1.0], "device": "cpu"},
    }
    (tmp_path / "recipe.yaml").write_text(json.dumps(recipe))
    command = [Path(sys.executable).with_name("boxmine"), "run", str(tmp_path / "recipe.yaml")]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S)
    assert ended.returncode == 0, ended.stderr
    assert ended.stderr.count("boxes on 24 images") == 1
    assert (tmp_path / "run" / "report" / "index.html").is_file()


def wait_for_epoch(folder: Path, epoch: int) -> None:
    """Wait for the end of an epoch."""
    wait_until(lambda: len(read_history(folder / "history.csv")) >= epoch, timeout_s=TIMEOUT_S, poll_s=0.05)


@pytest.mark.slow
@pytest.mark.parametrize("victim", ["the command", "the first device's process", "the second device's process"])
def test_killing_any_process_of_a_training_ends_all_and_the_same_command_resumes(
    corpus: dict[str, Path], tmp_path: Path, victim: str, count_fault: Callable[..., None]
) -> None:
    settings = settings_for(corpus, tmp_path / "model", epochs=12, patience=12)
    code = f"from flows.train import train, TrainSettings; train(TrainSettings.model_validate_json({settings.model_dump_json()!r}))"
    command = subprocess.Popen([sys.executable, "-P", "-c", code], stderr=subprocess.PIPE, text=True)
    wait_for_epoch(settings.out, 2)
    trainers = find_descendants(command.pid, "tasks.trainer")
    assert len(trainers) == 2
    pid = {"the command": command.pid, "the first device's process": min(trainers)}.get(victim, max(trainers))
    os.kill(pid, signal.SIGKILL)
    _, stderr = command.communicate(timeout=TIMEOUT_S)
    assert command.returncode != 0
    if victim != "the command":
        assert ProcessLostError.__name__ in stderr
    wait_until_gone(trainers)
    done = len(read_history(settings.out / "history.csv"))
    summary = train(settings)
    assert summary.epochs == 12
    assert [int(row["epoch"]) for row in read_history(settings.out / "history.csv")] == list(range(1, 13))
    assert done < 12
    count_fault("kill -9 of a training on two devices")


class SlowlyEndingProcess:
    """A process that has sent its result and takes its time to end."""

    pid = 2**30  # no process has it

    def wait(self, timeout: float | None = None) -> int:
        if timeout is not None:
            raise subprocess.TimeoutExpired("trainer", timeout)
        return 0


def test_the_result_counts_though_the_training_process_ends_slowly(
    corpus: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    summary = TrainingSummary(
        folder=tmp_path, images=1, validation_images=0, classes=1, objective="single", epochs=1, best_epoch=1,
        metric="accuracy", value=None, seconds=1.0, unreadable={}, notes=[],
    )  # fmt: skip
    receiver, sender = Pipe()
    sender.send(summary)
    monkeypatch.setattr(training_process, "start_worker", lambda *_: (SlowlyEndingProcess(), receiver))
    assert train(settings_for(corpus, tmp_path)) == summary
