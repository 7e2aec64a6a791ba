"""Training on several devices; here they are cores, a process each, started by Lightning as on GPUs."""

import json
import os
import signal
import subprocess
import sys
import time
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
from tasks import training
from tests.faults.counting import injected
from tests.making import write_photos
from tests.shards import processes_below

IN_TIME = 300.0
BROKEN = ("07.jpg", "18.jpg")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """24 photos of two classes, some of which cannot be read."""
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
    """Quick ones, and without dropout, which each device draws for itself."""
    given: dict[str, Any] = {
        "epochs": 2, "batch_size": 4, "input_size": 64, "optimizer": "sgd", "learning_rate": 0.01,
        "options": {"dropout": 0}, "weights": "none", "freeze": False, "validation_share": 0.2, "workers": 0,
        "accelerator": "cpu", "devices": "2",
    }  # fmt: skip
    return TrainSettings(**corpus, out=out, **{**given, **changes})


def told(summary: TrainingSummary) -> tuple[Any, ...]:
    return (summary.images, summary.validation_images, summary.epochs, summary.best_epoch, sorted(summary.unreadable))


def test_two_devices_learn_what_one_does(corpus: dict[str, Path], tmp_path: Path) -> None:
    # frozen, as by default: batch norm's statistics are a device's own; so is the mean over what can be read
    same = {"freeze": True, "weights": "imagenet"}
    sound = {**corpus, "labels": corpus["images"].parent / "sound.csv"}
    alone = train(settings_for(sound, tmp_path / "one", devices="1", **same))
    both = train(settings_for(sound, tmp_path / "two", **same))
    assert told(both) == told(alone)
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
    assert "LOCAL_RANK" not in os.environ, "what is started next is no part of the training"


@pytest.mark.slow
def test_a_device_without_a_readable_image_waits_for_the_others(corpus: dict[str, Path], tmp_path: Path) -> None:
    summary = train(settings_for(corpus, tmp_path / "model", batch_size=2, epochs=1))
    assert sorted(summary.unreadable) == list(BROKEN)
    assert all(value.isfinite().all() for value in load_file(summary.folder / "weights.safetensors").values())


def test_what_is_wrong_is_said_as_by_one_process(corpus: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="No labelled image"):
        train(settings_for({**corpus, "labels": Path("none")}, tmp_path / "model"))
    assert not processes_below(os.getpid(), "tasks.trainer")


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
def test_a_run_goes_on_once_after_a_training_on_two_devices(corpus: dict[str, Path], tmp_path: Path) -> None:
    recipe = {
        "out": str(tmp_path / "run"),
        "corpus": {name: str(path) for name, path in corpus.items()},
        "train": settings_for(corpus, tmp_path).model_dump(mode="json", include=set(TrainOptions.model_fields)),
        "mine": {"scales": [1.0], "device": "cpu"},
    }
    (tmp_path / "recipe.yaml").write_text(json.dumps(recipe))
    command = [Path(sys.executable).with_name("boxmine"), "run", str(tmp_path / "recipe.yaml")]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=IN_TIME)
    assert ended.returncode == 0, ended.stderr
    assert ended.stderr.count("boxes on 24 images") == 1
    assert (tmp_path / "run" / "report" / "index.html").is_file()


def until_epoch(folder: Path, epoch: int) -> None:
    """Wait for the end of an epoch."""
    ends = time.monotonic() + IN_TIME
    while len(read_history(folder / "history.csv")) < epoch:
        assert time.monotonic() < ends
        time.sleep(0.05)


@pytest.mark.slow
@pytest.mark.parametrize("whom", ["the command", "the process that trains", "a further device's"])
def test_whoever_is_killed_nobody_is_left_and_the_same_command_carries_on(
    corpus: dict[str, Path], tmp_path: Path, whom: str
) -> None:
    settings = settings_for(corpus, tmp_path / "model", epochs=12, patience=12)
    code = f"from flows.train import train, TrainSettings; train(TrainSettings.model_validate_json({settings.model_dump_json()!r}))"
    command = subprocess.Popen([sys.executable, "-P", "-c", code], stderr=subprocess.PIPE, text=True)
    until_epoch(settings.out, 2)
    below = processes_below(command.pid, "tasks.trainer")
    assert len(below) == 2
    victim = {"the command": command.pid, "the process that trains": min(below), "a further device's": max(below)}
    os.kill(victim[whom], signal.SIGKILL)
    _, said = command.communicate(timeout=IN_TIME)
    assert command.returncode != 0
    if whom != "the command":
        assert ProcessLostError.__name__ in said
    ends = time.monotonic() + 30
    while any(Path(f"/proc/{process}/cmdline").is_file() for process in below):
        assert time.monotonic() < ends, "a process is left"
        time.sleep(0.1)
    done = len(read_history(settings.out / "history.csv"))
    summary = train(settings)
    assert summary.epochs == 12
    assert [int(row["epoch"]) for row in read_history(settings.out / "history.csv")] == list(range(1, 13))
    assert done < 12
    injected("kill -9 of a training on two devices")


class StillEnding:
    """A process that has said its last word and takes its time to end."""

    pid = 2**30  # of nobody

    def wait(self, timeout: float | None = None) -> int:
        if timeout is not None:
            raise subprocess.TimeoutExpired("trainer", timeout)
        return 0


def test_a_training_whose_process_ends_slowly_is_a_training(
    corpus: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    summary = TrainingSummary(
        folder=tmp_path, images=1, validation_images=0, classes=1, objective="single", epochs=1, best_epoch=1,
        metric="accuracy", value=None, seconds=1.0, unreadable={}, notes=[],
    )  # fmt: skip
    ours, its = Pipe()
    its.send(summary)
    monkeypatch.setattr(training, "start_worker", lambda *_: (StillEnding(), ours))
    assert train(settings_for(corpus, tmp_path)) == summary
