"""Converted networks on disk: used again, made anew when stale or damaged, deleted when they are too many."""

import os
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from mining.errors import ModelError
from mining.runtimes import graph_cache, openvino_part, prepare
from mining.runtimes.graph_cache import FOLDER
from mining.storage.cache import cache_folder
from tests.factories import register_staged_backbone
from tests.unit.runtimes.test_openvino_part import CLASSES, CPU, in_openvino, localizer_on, picture


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    register_staged_backbone(monkeypatch)  # small, because each test converts a network again and again
    monkeypatch.setenv("BOXMINE_CACHE", str(tmp_path))
    return cache_folder(FOLDER)


@pytest.fixture
def conversions(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The parts that were converted, not read."""
    converted: list[str] = []
    convert = openvino_part._convert

    def counted(part: Any, precision: str) -> Any:
        converted.append(part.name)
        return convert(part, precision)

    monkeypatch.setattr(openvino_part, "_convert", counted)
    return converted


def maps_of(localizer: Any) -> torch.Tensor:
    quick, _ = in_openvino(localizer)
    with torch.inference_mode():
        return quick.localize(picture(), CLASSES).maps


def entries(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_network_is_converted_once_and_gives_the_same_when_it_is_read(folder: Path, conversions: list[str]) -> None:
    localizer = localizer_on("cam", "staged")
    first, second = maps_of(localizer), maps_of(localizer)
    assert torch.equal(first, second)
    assert conversions == ["last_features"]
    assert len(entries(folder)) == 1


def test_other_weights_options_or_code_are_another_network(
    folder: Path, conversions: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    localizer = localizer_on("cam", "staged")
    maps_of(localizer)
    with torch.no_grad():
        next(iter(localizer.backbone.parameters()))[0, 0, 0, 0] += 1e-6
    maps_of(localizer)
    maps_of(localizer_on("ccam", "staged"))
    monkeypatch.setattr(openvino_part, "_digest_of_code", lambda: "another version")
    maps_of(localizer)
    assert conversions == ["last_features"] * 4
    assert len(entries(folder)) == 4


@pytest.mark.parametrize("file", ["graph.xml", "graph.bin", "record.json"])
@pytest.mark.parametrize("damage", ["cut", "changed", "deleted", "empty"])
def test_a_damaged_network_is_converted_again(folder: Path, conversions: list[str], file: str, damage: str) -> None:
    localizer = localizer_on("cam", "staged")
    expected = maps_of(localizer)
    (path,) = folder.glob(f"*/{file}")
    content = path.read_bytes()
    path.unlink()
    if damage != "deleted":
        changed = content[:-9] + bytes([content[-9] ^ 1]) + content[-8:]
        path.write_bytes({"cut": content[: len(content) // 2], "changed": changed, "empty": b""}[damage])
    assert torch.equal(maps_of(localizer), expected)
    assert len(conversions) == 2
    maps_of(localizer)
    assert len(conversions) == 2


def test_without_a_place_for_the_cache_each_start_converts(
    tmp_path: Path, conversions: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("BOXMINE_CACHE", str(tmp_path / "file"))
    localizer = localizer_on("cam", "staged")
    assert torch.equal(maps_of(localizer), maps_of(localizer))
    assert len(conversions) == 2


def test_without_any_place_to_write_torch_runs_the_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("BOXMINE_CACHE", str(tmp_path / "file"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "absent"))
    compute = prepare.choose_compute(CPU, "openvino", "float32")
    used = prepare.use_runtime(localizer_on("cam", "staged"), compute, None, threads=1, timer=None)  # type: ignore[arg-type]
    assert used.runtime == "torch"


def test_the_least_recently_used_networks_are_deleted_and_nothing_else(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder.mkdir()
    own, foreign = [f"{number:064x}" for number in range(4)], ["notes", "a" * 63]
    for age, name in enumerate([*own, *foreign]):
        (folder / name).mkdir()
        (folder / name / "graph.bin").write_bytes(bytes(1000))
        os.utime(folder / name, (time.time() - age, time.time() - age))
    for name, age in (("unfinished-old", 10_000), ("unfinished-new", 0)):
        (folder / name).mkdir()
        os.utime(folder / name, (time.time() - age, time.time() - age))
    monkeypatch.setattr(graph_cache, "MAX_BYTES", 2500)
    graph_cache._delete_least_recently_used(folder)
    assert entries(folder) == sorted([*own[:2], *foreign, "unfinished-new"])


def test_what_cannot_be_converted_runs_in_torch_unless_openvino_was_asked_for(
    conversions: list[str], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    prepare._warn_once.cache_clear()
    monkeypatch.setitem(openvino_part._TOLERANCES, "float32", -1.0)  # no result is close enough
    localizer = localizer_on("cam", "staged")
    compute = prepare.choose_compute(CPU, "openvino", "float32")
    for _ in range(2):
        used = prepare.use_runtime(localizer, compute, None, threads=1, timer=None)  # type: ignore[arg-type]
        assert used.runtime == "torch"
    assert [record.message for record in caplog.records] == [
        "OpenVINO cannot run this model: its result for an image of 128 x 96 px differs from torch's. "
        "PyTorch runs it, which is slower on a CPU."
    ]
    with pytest.raises(ModelError, match=r"differs from torch's\. Use --runtime torch\."):
        prepare.use_runtime(localizer, compute, None, threads=1, timer=None, asked=("openvino", "auto"))  # type: ignore[arg-type]
    assert not cache_folder(FOLDER).exists()
