"""Mistakes and broken inputs: one sentence with the remedy, the documented exit code, nothing damaged."""

import fcntl
import json
import os
import resource
import shutil
import signal
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from flows.cli.application import run_command
from mining.models.checkpoint import load_model, save_model
from mining.runs import shard_mining
from tests.factories import write_model, write_photos

DONE, USAGE, QUARANTINED, STOPPED = 0, 2, 3, 4


class Terminal:
    """Runs a command line in this process; keeps its stdout and stderr."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys
        self.stderr = self.stdout = ""

    def __call__(self, *words: object) -> int:
        code = run_command([str(word) for word in words])
        self.stdout, self.stderr = self._capsys.readouterr()
        return code

    def read_refusal(self, *words: object) -> str:
        """Run a command that ends with code 2; returns its one sentence."""
        assert self(*words) == USAGE
        assert "Traceback" not in self.stderr
        (sentence,) = [line for line in self.stderr.splitlines() if line.startswith("boxmine: ")]
        return sentence.removeprefix("boxmine: ")


@pytest.fixture
def terminal(capsys: pytest.CaptureFixture[str]) -> Terminal:
    return Terminal(capsys)


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("model") / "model", ("cat", "dog"))


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return write_photos(tmp_path / "photos", [f"{letter}.jpg" for letter in "abcde"])


def mine_arguments(photos: Path, model: object, out: Path, *more: object) -> list[object]:
    return ["mine", "--images", photos, "--model", model, "--out", out, "--device", "cpu", "--scales", "1", *more]


def rows(run: Path) -> dict[str, tuple[str, str | None]]:
    """Read the state and the reason of each image by its name."""
    corpus = pq.read_table(run / "corpus.parquet").to_pylist()
    reasons = {row["file_name"]: row["reason"] for row in pq.read_table(run / "quarantine.parquet").to_pylist()}
    return {row["file_name"]: (row["state"], reasons.get(row["file_name"])) for row in corpus}


# --- the command -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["minee"], 'Did you mean "mine"?'),
        (["mine", "--images", "a", "--model", "m", "--out", "o", "--treshold", ".3"], "Did you mean --threshold?"),
        (["mine", "--imges", "a", "--model", "m", "--out", "o"], "Did you mean --images instead of --imges?"),
        (["mine", "--images", "a", "--model", "m"], "--out requires an argument"),
        (
            ["mine", "--images", "a", "--model", "m", "--out", "o", "--threshold", "1.5"],
            "less than 1, or one of otsu, entropy, stability (got '1.5')",
        ),
        (["train", "--images", "a", "--out", "o", "--epochs", "0"], "'epochs'"),
        (["train", "--images", "a", "--out", "o", "--localizer", "camm"], "did you mean 'cam'?"),
        (["run", "nowhere.yaml"], "Cannot read the recipe nowhere.yaml"),
        (["status", "nowhere"], "is neither a run directory, nor a label store"),
    ],
)
def test_a_typing_mistake_is_named_with_the_nearest_choice(
    words: list[str], expected: str, terminal: Terminal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a").mkdir()
    assert expected in terminal.read_refusal(*words)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a"]


# --- the corpus ------------------------------------------------------------------------------------------------------


def test_an_empty_folder_is_refused(terminal: Terminal, model: Path, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    assert "contains no image" in terminal.read_refusal(*mine_arguments(tmp_path / "photos", model, tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_missing_and_unlisted_images_are_reported(
    terminal: Terminal, model: Path, photos: Path, tmp_path: Path
) -> None:
    (tmp_path / "labels.csv").write_text("file_name,labels\na.jpg,cat\ngone.jpg,dog\n")
    assert terminal(*mine_arguments(photos, model, tmp_path / "run", "--labels", tmp_path / "labels.csv")) == DONE
    assert "4 images are found below" in terminal.stderr
    assert "gone.jpg: no such file" in terminal.stderr
    assert set(rows(tmp_path / "run")) == {"a.jpg", "gone.jpg"}


def test_a_class_that_the_model_does_not_know_is_refused(
    terminal: Terminal, model: Path, photos: Path, tmp_path: Path
) -> None:
    labels, run = tmp_path / "labels.csv", tmp_path / "run"
    labels.write_text("file_name,labels\na.jpg,catt\n")
    sentence = terminal.read_refusal(*mine_arguments(photos, model, run, "--labels", labels))
    assert "does not know the class 'catt'" in sentence
    assert "did you mean 'cat'?" in sentence
    assert "--labels none" in sentence
    labels.write_text("file_name,labels\na.jpg,cat\n")
    assert terminal(*mine_arguments(photos, model, run, "--labels", labels)) == DONE


def huge_png() -> bytes:
    """Build a PNG of 60000 x 60000 px in 100 bytes."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def test_unusable_images_do_not_stop_the_others(terminal: Terminal, model: Path, photos: Path, tmp_path: Path) -> None:
    assert terminal(*mine_arguments(photos, model, tmp_path / "clean")) == DONE
    whole = (photos / "a.jpg").read_bytes()
    (photos / "truncated.jpg").write_bytes(whole[: len(whole) // 2])
    (photos / "empty.jpg").touch()
    (photos / "text.jpg").write_text("404")
    (photos / "bomb.png").write_bytes(huge_png())
    Image.new("RGB", (1, 1)).save(photos / "one.png")
    Image.fromarray(np.full((10, 20_000, 3), 9, np.uint8)).save(photos / "strip.png")
    assert terminal(*mine_arguments(photos, model, tmp_path / "run")) == DONE
    assert "4 images could not be used" in terminal.stderr
    assert terminal(*mine_arguments(photos, model, tmp_path / "run"), "--strict") == QUARANTINED
    states = rows(tmp_path / "run")
    reasons = {name: reason for name, (state, reason) in states.items() if state == "quarantined"}
    assert set(reasons) == {"truncated.jpg", "empty.jpg", "text.jpg", "bomb.png"}
    for name, words in {"truncated.jpg": "truncated", "empty.jpg": "empty (0 bytes)", "text.jpg": "not an image",
                        "bomb.png": "more than 128,000,000 pixels"}.items():  # fmt: skip
        assert words in str(reasons[name])
        assert name in str(reasons[name])
    boxes = [pq.read_table(tmp_path / run / "annotations.parquet").to_pandas() for run in ("clean", "run")]
    clean, among_bad = (table[table.file_name.isin(list("abcde"))].drop(columns="image_id") for table in boxes)
    assert clean.equals(among_bad)


# --- the model -------------------------------------------------------------------------------------------------------


def test_a_folder_without_a_model_is_refused(terminal: Terminal, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "model.json").write_text("{}")
    assert "is not a boxmine model" in terminal.read_refusal(
        *mine_arguments(photos, tmp_path / "other", tmp_path / "run")
    )
    assert "No model folder" in terminal.read_refusal(*mine_arguments(photos, tmp_path / "nowhere", tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def save_with_weights(model: Path, folder: Path, value: float) -> Path:
    """Save the model with all class weights set to one value."""
    localizer, card = load_model(model)
    torch.nn.init.constant_(localizer.classifier.weight, value)
    save_model(folder, localizer, card)
    return folder


def test_nan_in_the_maps_quarantines_the_images(terminal: Terminal, model: Path, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text("file_name,labels\na.jpg,cat\nb.jpg,dog\n")
    broken = save_with_weights(model, tmp_path / "broken", float("nan"))
    code = terminal(*mine_arguments(photos, broken, tmp_path / "run", "--labels", tmp_path / "labels.csv"))
    assert code == DONE
    states = rows(tmp_path / "run")
    assert {state for state, _ in states.values()} == {"quarantined"}
    assert all("NaN or infinity" in str(reason) for _, reason in states.values())


def test_nan_in_the_classifier_quarantines_the_images(
    terminal: Terminal, model: Path, photos: Path, tmp_path: Path
) -> None:
    localizer, card = load_model(model)
    torch.nn.init.constant_(localizer.classifier.bias, float("nan"))
    save_model(tmp_path / "broken", localizer, card)
    assert terminal(*mine_arguments(photos, tmp_path / "broken", tmp_path / "run")) == DONE
    assert all("NaN or infinity" in str(reason) for _, reason in rows(tmp_path / "run").values())


def test_a_deleted_run_can_be_mined_by_another_model(
    terminal: Terminal, model: Path, photos: Path, tmp_path: Path
) -> None:
    other = write_model(tmp_path / "other", ("ape", "bee"))
    assert terminal(*mine_arguments(photos, model, tmp_path / "run", "--class-cut", "0")) == DONE
    shutil.rmtree(tmp_path / "run")
    assert terminal(*mine_arguments(photos, other, tmp_path / "run", "--class-cut", "0")) == DONE
    assert set(pq.read_table(tmp_path / "run" / "annotations.parquet")["category"].to_pylist()) == {"ape", "bee"}


def test_constant_maps_give_no_box(terminal: Terminal, model: Path, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text("file_name,labels\na.jpg,cat\nb.jpg,dog\n")
    flat = save_with_weights(model, tmp_path / "flat", 0.0)
    assert terminal(*mine_arguments(photos, flat, tmp_path / "run", "--labels", tmp_path / "labels.csv")) == DONE
    assert rows(tmp_path / "run") == {"a.jpg": ("no_region", None), "b.jpg": ("no_region", None)}
    assert json.loads((tmp_path / "run" / "annotations.json").read_text())["annotations"] == []


# --- the run directory -----------------------------------------------------------------------------------------------


def test_a_folder_with_other_files_is_refused(terminal: Terminal, model: Path, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "diary.txt").write_text("dear")
    assert "holds other things (e.g. 'diary.txt')" in terminal.read_refusal(
        *mine_arguments(photos, model, tmp_path / "mine")
    )
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["diary.txt"]


def test_a_path_below_a_file_is_refused(terminal: Terminal, model: Path, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    assert "a folder above it is a file" in terminal.read_refusal(
        *mine_arguments(photos, model, tmp_path / "file" / "run")
    )
    assert "file is a file; give a folder" in terminal.read_refusal(*mine_arguments(photos, model, tmp_path / "file"))


def test_a_run_with_other_settings_is_refused(terminal: Terminal, model: Path, photos: Path, tmp_path: Path) -> None:
    assert terminal(*mine_arguments(photos, model, tmp_path / "run")) == DONE
    before = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "run").iterdir()}
    sentence = terminal.read_refusal(*mine_arguments(photos, model, tmp_path / "run", "--threshold", ".4"))
    assert "its threshold is not set, this command's is 0.4" in sentence
    assert terminal(*mine_arguments(photos, model, tmp_path / "run")) == DONE
    assert before == {path.name: path.stat().st_mtime_ns for path in (tmp_path / "run").iterdir()}


def test_a_run_that_another_process_mines_is_refused(
    terminal: Terminal, model: Path, photos: Path, tmp_path: Path
) -> None:
    (tmp_path / "run").mkdir()
    folder = os.open(tmp_path / "run", os.O_RDONLY)
    fcntl.flock(folder, fcntl.LOCK_EX)
    assert "Another process is working on" in terminal.read_refusal(*mine_arguments(photos, model, tmp_path / "run"))
    os.close(folder)
    assert terminal(*mine_arguments(photos, model, tmp_path / "run")) == DONE


@contextmanager
def limit_file_size(size: int) -> Iterator[None]:
    """Limit the size of files that this process writes."""
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)


def test_a_run_stopped_by_a_full_disk_is_resumed(
    terminal: Terminal, model: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = mine_arguments(photos, model, tmp_path / "run", "--shard-size", "2")
    write_part, written = shard_mining.write_part, []

    def fill_disk_at_second(path: Path, *rest: object) -> None:
        written.append(path.name)
        with limit_file_size(512) if len(written) == 2 else nullcontext():
            write_part(path, *rest)

    monkeypatch.setattr(shard_mining, "write_part", fill_disk_at_second)
    assert terminal(*command) == STOPPED
    assert "curves-00001.parquet: the file would be too large" in terminal.stderr
    assert terminal("status", tmp_path / "run") == DONE
    assert "2 of 5 done" in terminal.stdout
    assert "the file would be too large" in terminal.stdout, "status says why it stopped"
    parts = {path.name for path in (tmp_path / "run" / "parts").iterdir()}
    assert parts == {"part-00000.parquet", "curves-00000.parquet"}
    assert terminal(*command) == DONE
    assert written == ["part-00000.parquet", "part-00001.parquet", "part-00001.parquet", "part-00002.parquet"]
    assert terminal(*mine_arguments(photos, model, tmp_path / "plain", "--shard-size", "2")) == DONE
    tables = [pq.read_table(tmp_path / run / "annotations.parquet") for run in ("run", "plain")]
    assert tables[0].equals(tables[1])


def test_a_refused_training_leaves_no_folder(terminal: Terminal, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text("file_name,labels\na.jpg,cat\nb.jpg,cat\n")
    sentence = terminal.read_refusal(
        "train", "--images", photos, "--labels", tmp_path / "labels.csv", "--out", tmp_path / "model"
    )
    assert "All images are labelled 'cat'" in sentence
    assert not (tmp_path / "model").exists()
