"""Each command with damaged versions of the records it reads: one sentence and exit code 2, no traceback, no hang."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flows.cli.application import run_command
from mining.corpus.content_hashes import open_hash_cache
from mining.errors import ModelError
from mining.training.checkpoints import read_checkpoint
from tests.factories import write_example, write_photos

DONE, USAGE = 0, 2


pytestmark = pytest.mark.timeout(120)  # no command may wait for something


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images, labels, a model, and a finished run of them."""
    place = write_example(tmp_path_factory.mktemp("whole"))
    assert run_command(mine_arguments(place, place / "run")) == DONE
    return place


@pytest.fixture
def place(whole: Path, tmp_path: Path) -> Path:
    """A copy of the run and the model, for the test to damage."""
    for name in ("run", "model"):
        shutil.copytree(whole / name, tmp_path / name)
    (tmp_path / "photos").symlink_to(whole / "photos")
    shutil.copy(whole / "labels.csv", tmp_path)
    return tmp_path


def mine_arguments(place: Path, out: Path, model: object = None) -> list[str]:
    words = [
        "mine",
        "--images",
        place / "photos",
        "--labels",
        place / "labels.csv",
        "--model",
        model or place / "model",
    ]
    return [str(word) for word in [*words, "--out", out, "--device", "cpu", "--scales", "1"]]


def change_json(**changes: Any) -> Callable[[bytes], bytes]:
    """Build a function that changes values of a JSON object; None deletes one."""

    def changed(data: bytes) -> bytes:
        values = {**json.loads(data), **changes}
        return json.dumps({name: value for name, value in values.items() if value is not None}).encode()

    return changed


def make_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def make_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda data: b"",
    "half": lambda data: data[: len(data) // 2],
    "bytes": lambda data: b"\xff\xfe" + data,
    "list": lambda data: b"[]",
    "object": lambda data: b"{}",
    "null": lambda data: b"null",
    "number": lambda data: b"7",
    "nested": lambda data: b'{"a":' * 50_000,
    "later": change_json(format="boxmine-run/99"),
    "no state": change_json(state=None),
    "odd state": change_json(state=["finished"]),
    "odd config": change_json(config=[1]),
    "odd name": change_json(name={"a": 1}),
    "odd counts": change_json(counts={"images": "many"}),
    "odd inputs": change_json(inputs="x"),
}
READERS = ("mine", "score", "export", "status", "report", "compare")


def arguments_for(command: str, place: Path) -> list[str]:
    run = str(place / "run")
    return {
        "mine": mine_arguments(place, place / "run"),
        "score": ["score", run, "--truth", str(place / "labels.csv")],
        "export": ["export", run, "--format", "coco", "--out", str(place / "set")],
        "status": ["status", run],
        "report": ["report", run],
        "compare": ["compare", run, run],
    }[command]


@pytest.mark.parametrize("command", READERS)
def test_a_damaged_record_of_a_run_is_refused(command: str, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record = place / "run" / "run.json"
    data = record.read_bytes()
    for name, damage in DAMAGES.items():
        record.write_bytes(damage(data))
        code = run_command(arguments_for(command, place))
        stderr = capsys.readouterr().err
        assert (code, "run.json" in stderr) == (USAGE, True), (name, stderr)
        assert ("boxmine-run/99" in stderr) == (name == "later")
        assert len(stderr) < 800
    for special in (make_pipe, make_folder):
        special(record)
        assert run_command(arguments_for(command, place)) == USAGE
        assert "run.json" in capsys.readouterr().err
        record.rmdir() if special is make_folder else record.unlink()
        record.write_bytes(data)


@pytest.mark.parametrize("name", ["model.json", "weights.safetensors"])
def test_a_damaged_model_is_refused(name: str, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = place / "model" / name
    data = file.read_bytes()
    damages = {
        "later": change_json(format="boxmine-model/99"),
        "odd class": change_json(classes=[7]),
        "no class": change_json(classes=[]),
    }
    damages |= {"odd size": change_json(input_size=10**12), "odd options": change_json(options={"dropout": "much"})}
    for damage in ("empty", "half", "bytes", "list", "nested", *(damages if name == "model.json" else ())):
        file.write_bytes({**DAMAGES, **damages}[damage](data))
        assert run_command(mine_arguments(place, place / "new")) == USAGE, damage
        stderr = capsys.readouterr().err
        assert name in stderr
        assert ("boxmine-model/99" in stderr) == (damage == "later")
        assert not (place / "new").exists()
    for special in (make_pipe, make_folder):
        special(file)
        assert run_command(mine_arguments(place, place / "new")) == USAGE
        file.rmdir() if special is make_folder else file.unlink()
        file.write_bytes(data)


def test_a_run_is_resumed_with_the_same_model_from_anywhere(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place)
    assert run_command(mine_arguments(place, place / "new", model="model")) == DONE
    monkeypatch.chdir(place.parent)
    assert run_command(mine_arguments(place, place / "new", model=f"{place.name}/model")) == DONE
    (place / "model").rename(place / "moved")
    assert run_command(mine_arguments(place, place / "new", model=place / "moved")) == DONE
    card = place / "moved" / "model.json"
    data = card.read_bytes()
    card.unlink()  # the run's own copy is a hard link to the file
    card.write_bytes(change_json(classes=[{"id": 1, "name": "dog"}, {"id": 2, "name": "cat"}])(data))
    capsys.readouterr()
    assert run_command(mine_arguments(place, place / "new", model=place / "moved")) == USAGE
    assert "belongs to another run: its model is" in capsys.readouterr().err


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 half", b"not a checkpoint"])
def test_a_damaged_checkpoint_is_refused(content: bytes, tmp_path: Path) -> None:
    checkpoint = tmp_path / "checkpoints" / "last.ckpt"
    checkpoint.parent.mkdir()
    checkpoint.write_bytes(content)
    with pytest.raises(ModelError, match=r"last\.ckpt is damaged .* to train from the start"):
        read_checkpoint(checkpoint)


def test_a_checkpoint_with_a_flipped_bit_or_other_content_is_refused(tmp_path: Path) -> None:
    import torch

    checkpoint = tmp_path / "last.ckpt"
    whole = {"epoch": 1, "state_dict": {"w": torch.zeros(1000)}, "optimizer_states": [], "loops": {}}
    torch.save(whole, checkpoint)
    assert read_checkpoint(checkpoint)["epoch"] == 1
    data = bytearray(checkpoint.read_bytes())
    data[len(data) // 2] ^= 1
    checkpoint.write_bytes(data)
    with pytest.raises(ModelError, match=r"checksum of .* does not match"):
        read_checkpoint(checkpoint)
    torch.save({"weights": torch.zeros(3)}, checkpoint)
    with pytest.raises(ModelError, match="it has no epoch"):
        read_checkpoint(checkpoint)


def test_a_damaged_table_of_hashes_is_replaced(tmp_path: Path) -> None:
    photos = write_photos(tmp_path / "photos", [f"{number}.jpg" for number in range(3)])
    kept = tmp_path / "hashes.sqlite"
    with open_hash_cache(str(photos), kept) as hashes:
        hashes._store((f"{number}" * 20, 1, 2, 3, 4, "a" * 64) for number in range(3000))
        expected = hashes.compute(["0.jpg", "1.jpg"])
    data = bytearray(kept.read_bytes())
    data[8192:12288] = bytes(4096)
    kept.write_bytes(data)
    with open_hash_cache(str(photos), kept) as hashes:
        assert hashes.compute(["0.jpg", "1.jpg"]) == expected
