"""Malicious and malformed recipes, and how relative paths in a recipe are resolved."""

import pickle
import time
from pathlib import Path
from typing import Any

import pytest

from mining.config import (
    CompareSettings,
    MineSettings,
    Recipe,
    RetrainSettings,
    RunSettings,
    ScoreSettings,
    Settings,
    TrainSettings,
    parse,
)
from mining.config.bootstrap import BootstrapSettings
from mining.config.proof import ProofSettings
from mining.config.recipes import MAX_DEPTH, read_recipe
from mining.errors import InputError
from mining.experiments import ExperimentSettings
from mining.label_store.settings import LabelSettings

EVERY_KIND = (
    TrainSettings, MineSettings, ScoreSettings, CompareSettings, RunSettings, RetrainSettings, LabelSettings,
    ExperimentSettings,
)  # fmt: skip
MINIMAL: dict[type[Settings], dict[str, Any]] = {
    TrainSettings: {"images": "photos", "labels": "l.csv", "out": "out", "weights": "w.pth"},
    MineSettings: {"images": "photos", "labels": "l.csv", "out": "out", "model": "model"},
    ScoreSettings: {"run": "run", "truth": "truth.json"},
    CompareSettings: {"first": "a", "second": "b", "truth": "truth.json", "out": "page.html"},
    RunSettings: {
        "out": "out", "corpus": {"images": "photos"}, "test": {"images": "more", "labels": "l.csv"},
        "model": "model", "truth": "truth.json",
    },
    RetrainSettings: {
        "runs": "runs", "current": "now", "corpus": {"images": "photos"}, "train": {"weights": "w.pth"}, "truth": "t",
    },
    LabelSettings: {
        "store": "store", "runs": "runs", "corpus": {"images": "photos", "labels": "l.csv"}, "model": "model",
        "truth": "truth.json",
    },
    ExperimentSettings: {
        "out": "out", "corpora": {"one": {"images": "photos", "truth": "t.json", "test": {"images": "more"}}},
        "variants": {"a": {"train": {"weights": "w.pth"}}}, "train": {"weights": "v.pth"},
    },
}  # fmt: skip


def write_recipe(folder: Path, text: str) -> Path:
    path = folder / "recipe.yaml"
    path.write_text(text)
    return path


def paths_in(settings: Any) -> list[Path]:
    """Return every path in the settings, including those held as strings."""
    if isinstance(settings, Settings):
        return [path for _, value in settings for path in paths_in(value)]
    if isinstance(settings, dict):
        return [path for value in settings.values() for path in paths_in(value)]
    if isinstance(settings, str) and ("/" in settings or settings.endswith((".pth", "store", "model"))):
        return [Path(settings)]
    return [settings] if isinstance(settings, Path) else []


def count_leaves(values: Any) -> int:
    return sum(map(count_leaves, values.values())) if isinstance(values, dict) else 1


@pytest.mark.parametrize("kind", EVERY_KIND, ids=lambda kind: kind.__name__)
def test_every_path_in_a_recipe_is_resolved_against_its_folder(
    kind: type[Settings], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import yaml

    (tmp_path / "elsewhere").mkdir()
    recipe = write_recipe(tmp_path, yaml.safe_dump(MINIMAL[kind]))
    monkeypatch.chdir(tmp_path / "elsewhere")
    settings = Recipe(recipe=recipe).read(kind)
    found = paths_in(settings)
    if isinstance(settings, ExperimentSettings):
        found += [Path(settings.train_options("a", 0).weights)]
        found = [path for path in found if path.suffix != ".pth" or path.is_absolute()]
    assert len(found) >= count_leaves(MINIMAL[kind]) - 2
    assert [path for path in found if path.parent != tmp_path] == []


def test_override_paths_are_relative_to_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = write_recipe(tmp_path, "run: a\ntruth: t.json\n")
    monkeypatch.chdir(tmp_path.parent)
    settings = Recipe(recipe=recipe, changes={"truth": "other.json"}).read(ScoreSettings)
    assert (settings.run, settings.truth) == (tmp_path / "a", Path("other.json"))


def test_the_words_for_a_detectors_weights_are_not_treated_as_paths(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    for weights, expected in (("coco", "coco"), ("imagenet", "imagenet"), ("own.pt", str(tmp_path / "own.pt"))):
        path.write_text(f"out: out\ncorpus: {{images: photos}}\ndetector: {{weights: {weights}}}\n")
        assert parse(BootstrapSettings, read_recipe(path)).detector.weights == expected
    with pytest.raises(InputError, match="stages of random weights would be frozen"):
        parse(BootstrapSettings, read_recipe(path, {"detector.weights": "none"}))


def test_yamls_true_names_the_true_boxes_of_a_proof(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text("out: out\nruns: run\ntruth: t.json\ntest: {images: test, truth: test.json}\narms: [true, mined]\n")
    assert parse(ProofSettings, read_recipe(path)).arms == ("true", "mined")


def test_urls_and_model_ids_are_not_treated_as_paths(tmp_path: Path) -> None:
    recipe = write_recipe(
        tmp_path, "store: s3://bucket/labels\nruns: r\ncorpus: {images: p}\nmodel: pretrained:resnet50\n"
    )
    settings = parse(LabelSettings, read_recipe(recipe))
    assert (settings.store, settings.model) == ("s3://bucket/labels", "pretrained:resnet50")


def alias_bomb(levels: int, width: int = 9) -> str:
    lines = [f"a0: &a0 [{', '.join(['x'] * width)}]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * width)}]" for n in range(1, levels)]
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (alias_bomb(9), "comes to more than 100,000 values"),
        ("a: &a [" + ", ".join(["x"] * 400) + "]\nb: [" + ", ".join(["*a"] * 400) + "]", "more than 100,000 values"),
        ("a: &a\n  b: *a\n", "holds the alias itself"),
        ("out: " + "[" * 5000, f"nested deeper than {MAX_DEPTH} levels"),
        ("out: " + "{a: " * 5000, f"nested deeper than {MAX_DEPTH} levels"),
        ("- " * 5000, f"nested deeper than {MAX_DEPTH} levels"),
        ("out: 2026-13-45", "month must be in"),
        ("out: !!int x", "invalid literal"),
        ("out: " + "1" * 5000, "Exceeds the limit"),
        ("? [a, b]\n: 1\n", "unhashable key"),
        ("out: *nothing", "undefined alias"),
        ("out: \x00", "special characters"),
    ],
)
def test_an_oversized_or_malformed_recipe_is_rejected_quickly(text: str, expected: str, tmp_path: Path) -> None:
    started = time.process_time()
    with pytest.raises(InputError, match=expected) as caught:
        read_recipe(write_recipe(tmp_path, text))
    assert time.process_time() - started < 5
    assert "recipe.yaml is not YAML that can be used" in str(caught.value)
    assert len(str(caught.value)) < 1000
    with pytest.raises(InputError, match=r"--set out"):
        read_recipe(write_recipe(tmp_path, "out: run"), {"out": text})


def test_a_moderate_use_of_aliases_is_accepted(tmp_path: Path) -> None:
    text = "test: &one {images: p}\ncorpus: *one\nout: o\nmodel: m\n"
    assert parse(RunSettings, read_recipe(write_recipe(tmp_path, text))).corpus.images == tmp_path / "p"


def test_an_oversized_recipe_file_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="more than the limit of 1,000,000"):
        read_recipe(write_recipe(tmp_path, "# " + "x" * 2_000_000))


@pytest.mark.parametrize(
    "text",
    [
        "1: 2\nout: o\ncorpus: {images: p}\n",
        "out: o\ncorpus: {1: 2, images: p}\n",
        "out: o\ncorpus: {images: p}\nmine: {class_thresholds: {1: 0.5}}\n",
        "out: o\ncorpus: {images: p}\nmine: {options: {1: 2}}\n",
        "out: o\ncorpus: {images: p}\nnull: 3\n",
        "out: o\ncorpus: {images: p}\n2026-01-01: 3\n",
        f"out: {'x' * 300}\ncorpus: {{images: p}}\n",
        f"out: {'x/' * 3000}\ncorpus: {{images: p}}\n",
        f"{'x' * 100_000}: 1\nout: o\ncorpus: {{images: p}}\n",
        'out: "a\\0b"\ncorpus: {images: p}\n',
        'out: "a\\uD800b"\ncorpus: {images: p}\n',
        'out: o\ncorpus: {images: "\\0"}\n',
        'out: o\nmodel: "\\0"\ncorpus: {images: p}\n',
        "out: o\ncorpus: {images: p, labels: [a]}\n",
        "out: [o]\ncorpus: [p]\n",
        "out: o\ncorpus: {images: p}\nmine: {scales: {a: b}}\n",
        f"out: o\ncorpus: {{images: p}}\nmine: {{scales: [{', '.join(['1'] * 50)}]}}\n",
        "out: o\ncorpus: {images: p}\nmine: {thresholds_from: [1]}\n",
        "out: o\ncorpus: {images: p}\ntruth: 7\nmine: {threshold: [otsu]}\n",
        "out: o\ncorpus: {images: p}\ntrain: {devices: [1], epochs: true, batch_size: .nan}\n",
        "out: o\ncorpus: {images: p}\nmodel: https://user:secret@host/model\n",
    ],
)
def test_unusual_recipes_are_rejected_with_a_short_message(text: str, tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        parse(RunSettings, read_recipe(write_recipe(tmp_path, text)))
    assert len(str(caught.value)) < 1500
    assert "secret" not in str(caught.value)
    pickle.loads(pickle.dumps(caught.value))


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        (MineSettings, {"workers": 100_000}),
        (MineSettings, {"cpus_per_worker": 1_000_000}),
        (MineSettings, {"runner_workers": 100_000}),
        (MineSettings, {"retries": 10**9}),
        (MineSettings, {"batch_size": 10**7}),
        (MineSettings, {"scales": [1e9]}),
        (MineSettings, {"scales": [1e-9]}),
        (MineSettings, {"shard_size": 10**20}),
        (MineSettings, {"map_side": 10**7}),
        (MineSettings, {"max_classes": 10**30}),
        (MineSettings, {"device": "meta"}),
        (MineSettings, {"device": "cuda:x"}),
        (MineSettings, {"device": "xla"}),
        (MineSettings, {"min_area": 0.5, "max_area": 0.2}),
        (MineSettings, {"max_area": 0.001}),
        (TrainSettings, {"workers": 100_000}),
        (TrainSettings, {"seed": 2**32}),
        (TrainSettings, {"seed": -1}),
        (TrainSettings, {"input_size": 100_000}),
        (TrainSettings, {"crop_from": 100_000}),
        (TrainSettings, {"epochs": 10**12}),
        (TrainSettings, {"batch_size": 10**9}),
        (TrainSettings, {"devices": "100000"}),
    ],
)
def test_settings_out_of_range_are_rejected(kind: type[Settings], settings: dict[str, Any]) -> None:
    base = {"images": "p", "out": "o"} | ({"model": "m"} if kind is MineSettings else {})
    with pytest.raises(InputError) as caught:
        parse(kind, base | settings)
    assert any(name in str(caught.value) for name in settings)


def test_the_largest_seed_is_accepted() -> None:
    assert parse(TrainSettings, {"images": "p", "out": "o", "seed": 2**32 - 1}).seed == 2**32 - 1
