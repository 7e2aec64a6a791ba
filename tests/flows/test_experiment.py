"""`boxmine experiment`: variants of training and mining, compared on the same images."""

import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from flows.cli.application import run_command
from mining.config import parse
from mining.config.recipes import read_recipe
from mining.evaluation.run_comparison import compare_runs
from mining.experiments import ExperimentSettings, make_cells
from mining.localizers.registry import LOCALIZERS
from mining.models import overrides
from mining.runs.run import Run
from mining.storage.locks import lock_folder
from mining.synthetic import generate
from tests.factories import register_tiny_backbone


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The recipe of a finished experiment of three variants; the results are beside it."""
    folder = tmp_path_factory.mktemp("experiment")
    generate(folder / "photos", images=12, seed=3)
    values = {
        "out": "results",
        "corpora": {"made": {"images": "photos/images", "labels": "photos/labels.csv", "truth": "photos/truth.json"}},
        "baseline": "cam",
        "seeds": [0, 1],
        "pyramids": [[1], [1, 1.5]],
        "train": {
            "backbone": "tiny", "weights": "none", "freeze": False, "epochs": 1, "workers": 0, "validation_share": 0,
        },
        "variants": {
            "cam": {},
            "high": {"mine": {"threshold": 0.6}},
            "longer": {"train": {"epochs": 2}},
        },
    }  # fmt: skip
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(values, sort_keys=False))
    with pytest.MonkeyPatch.context() as patch:
        register_tiny_backbone(patch)
        assert run_command(["experiment", str(path)]) == 0
        yield path


@pytest.fixture
def copied(recipe: Path, tmp_path: Path) -> Path:
    """A copy of the results, for a test to continue."""
    return Path(shutil.copytree(recipe.parent / "results", tmp_path / "results"))


def run_again(recipe: Path, out: Path, *changes: str) -> list[dict[str, Any]]:
    """Run the experiment again with a few changes; returns its rows."""
    options = [text for change in changes for text in ("--set", change)]
    assert run_command(["experiment", str(recipe), "--out", str(out), *options]) == 0
    return read_rows(out)


def read_rows(out: Path) -> list[dict[str, Any]]:
    return json.loads((out / "table.json").read_text())


def test_every_variant_is_measured_at_every_pyramid(recipe: Path) -> None:
    rows = read_rows(recipe.parent / "results")
    assert [(row["variant"], row["scales"]) for row in rows] == [
        (variant, scales) for variant in ("cam", "high", "longer") for scales in ([1.0], [1.0, 1.5])
    ]
    assert all(row["seeds"] == 2 and row["spreads"]["corloc"] is not None for row in rows)


def test_differences_are_to_the_baseline_and_to_the_first_pyramid(recipe: Path) -> None:
    rows = read_rows(recipe.parent / "results")
    corloc = [row["means"]["corloc"] for row in rows]
    assert rows[0]["over_baseline"] is rows[0]["over_first_pyramid"] is rows[1]["over_baseline"] is None
    assert rows[2]["over_first_pyramid"] is rows[1]["over_baseline_strictly"] is None
    assert rows[3]["over_baseline_strictly"]["value"] == pytest.approx(
        rows[3]["means"]["corloc_0.7"] - rows[1]["means"]["corloc_0.7"]
    )
    assert rows[3]["over_baseline"]["value"] == pytest.approx(corloc[3] - corloc[1])
    assert rows[3]["over_first_pyramid"]["value"] == pytest.approx(corloc[3] - corloc[2])
    strictly = [row["means"]["corloc_0.7"] for row in rows]
    assert rows[3]["over_first_pyramid_strictly"]["value"] == pytest.approx(strictly[3] - strictly[2])


def test_variants_that_only_mine_differently_share_a_training(recipe: Path) -> None:
    models = recipe.parent / "results" / "made" / "models"
    assert len(list(models.iterdir())) == 4  # two seeds, two lengths


def test_corpora_with_the_same_images_to_train_on_share_a_training(recipe: Path) -> None:
    values = read_recipe(recipe)
    made = values["corpora"]["made"]
    values["corpora"] = {
        "made": {**made, "test": {"labels": "others.csv"}},
        "made train": made,
        "elsewhere": {**made, "images": "elsewhere"},
    }
    cells = make_cells(parse(ExperimentSettings, values))
    trainings = {cell.corpus: cell.train.out for cell in cells if cell.variant == "cam" and cell.seed == 0}
    assert trainings["made"] == trainings["made train"] != trainings["elsewhere"]
    assert trainings["made"].parts[-3:-1] == ("made", "models")
    assert len({cell.mine.out for cell in cells}) == len({cell.figures for cell in cells}) == len(cells)


def test_boxes_are_compared_with_those_of_the_baseline_seed_by_seed(recipe: Path, copied: Path) -> None:
    rows = run_again(recipe, copied, "pyramids=[[1]]", "variants.same.mine.device=cpu")
    share = {row["variant"]: row["same_box_as_baseline"] for row in rows}
    runs = copied / "made" / "runs"
    agreements = [
        change.agreement
        for seed in (0, 1)
        for change in compare_runs(runs / f"cam-1-seed{seed}", runs / f"high-1-seed{seed}").changes
    ]
    assert share["cam"] is None
    assert share["same"] == 1
    assert share["high"] == pytest.approx(sum(value >= 0.98 for value in agreements) / len(agreements))
    assert 0 < share["high"] < 1


def test_the_table_is_shown_and_written(recipe: Path, copied: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = run_again(recipe, copied)
    stdout = capsys.readouterr().out
    assert "MaxBoxAccV2" in stdout
    assert "longer" in stdout
    assert (copied / "table.md").read_text().count("| made |") == len(rows)


def test_warnings_of_the_runs_follow_the_table(recipe: Path, copied: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path in (copied / "made" / "figures").glob("longer-1-seed*.json"):
        path.write_text(json.dumps({**json.loads(path.read_text()), "warnings": ["All boxes are alike."]}))
    run_again(recipe, copied)
    sentence = "made, longer, 1: All boxes are alike."
    assert " ".join(capsys.readouterr().err.split()).count(sentence) == 1
    rows, listed = (copied / "table.md").read_text().rsplit("\n\n", 1)
    assert sentence not in rows
    assert listed.splitlines().count(f"- {sentence}") == 1, "runs of few images have other warnings, too"


def test_the_figures_equal_those_of_the_commands(recipe: Path, tmp_path: Path) -> None:
    photos = recipe.parent / "photos"
    corpus = ["--images", str(photos / "images"), "--labels", str(photos / "labels.csv")]
    model, run = tmp_path / "model", tmp_path / "run"
    quick = [
        "--backbone",
        "tiny",
        "--weights",
        "none",
        "--no-freeze",
        "--epochs",
        "1",
        "--workers",
        "0",
        "--validation-share",
        "0",
        "--seed",
        "1",
    ]
    assert run_command(["train", *corpus, "--out", str(model), *quick]) == 0
    assert run_command(["mine", *corpus, "--model", str(model), "--out", str(run), "--scales", "1,1.5"]) == 0
    assert run_command(["score", str(run), "--truth", str(photos / "truth.json")]) == 0
    corloc = json.loads((run / "scores.json").read_text())["corloc"]
    figures = json.loads((recipe.parent / "results/made/figures/cam-1-1.5-seed1.json").read_text())
    assert (figures["corloc"], figures["boxes_per_pair"]) == (corloc["value"], corloc["boxes_per_pair"])
    assert len(figures["pairs"]) == corloc["pairs"]


def test_a_variant_is_measured_again_only_after_a_change_of_its_settings(recipe: Path, copied: Path) -> None:
    figures = sorted((copied / "made" / "figures").glob("*.json"))
    assert len(figures) == 12
    for path in figures:
        os.utime(path, (1, 1))
    rows = run_again(recipe, copied, "seeds=[0]", "variants.high.mine.threshold=0.7")
    measured = {path.name for path in figures if path.stat().st_mtime > 1}
    assert measured == {"high-1-seed0.json", "high-1-1.5-seed0.json"}
    assert rows[0]["seeds"] == 1


def test_a_setting_unknown_to_an_earlier_measurement_counts_as_its_default(recipe: Path, copied: Path) -> None:
    path = copied / "made/figures/cam-1-seed0.json"
    figures = json.loads(path.read_text())
    train = figures["cell"]["train"]
    assert train["restart_rate"] == 0.1, "the number, as earlier versions recorded it"
    del figures["cell"]["mine"]["class_thresholds"], train["momentum"], train["restart_rate"]
    path.write_text(json.dumps({**figures, "corloc": 0.123}))
    only_cam = ["seeds=[0]", "pyramids=[[1]]", "variants={cam: {}}"]
    assert run_again(recipe, copied, *only_cam)[0]["means"]["corloc"] == 0.123
    assert run_again(recipe, copied, *only_cam, "mine.class_thresholds={fish: 0.9}")[0]["means"]["corloc"] != 0.123


@pytest.mark.parametrize("changed", ["of the localizer", "of refined maps"])
def test_a_changed_default_threshold_needs_a_new_measurement(
    changed: str, recipe: Path, copied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = copied / "made/figures/cam-1-seed0.json"
    before = path.stat().st_mtime_ns
    if changed == "of the localizer":
        monkeypatch.setitem(LOCALIZERS, "cam", replace(LOCALIZERS["cam"], threshold=0.9))
    else:
        monkeypatch.setattr(overrides, "CELL_THRESHOLD", 0.9)
    only_cam = ["seeds=[0]", "pyramids=[[1]]", "variants={cam: {}}"]
    run_again(recipe, copied, *only_cam)
    assert path.stat().st_mtime_ns != before


def test_an_incomplete_measurement_is_repeated(recipe: Path, copied: Path) -> None:
    before = [row["means"] for row in read_rows(copied)]
    (copied / "made/figures/cam-1-seed0.json").unlink()
    (copied / "made/figures/cam-1-seed1.json").write_text("{")
    assert [row["means"] for row in run_again(recipe, copied)] == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("baseline=cm", "did you mean 'cam'"),
        ("variants.high.mine.treshold=0.5", "threshold"),
        ("variants.high.train.localizer=camm", "cam"),
        ("variants.high.train.options.degree=2", "degree"),
        ("variants.high.mine.localizer=camm", "cam"),
        ("corpora={}", "corpora"),
        ("seeds=[-1]", "seeds"),
        ("train.seed=3", "seeds"),
        ("variants.high.mine.scales=[2]", "pyramids"),
    ],
)
def test_an_invalid_recipe_is_refused_in_a_sentence(
    recipe: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], change: str, message: str
) -> None:
    assert run_command(["experiment", str(recipe), "--out", str(tmp_path / "results"), "--set", change]) == 2
    assert message in " ".join(capfd.readouterr().err.split())
    assert not (tmp_path / "results").exists()


def test_a_variant_changes_options_of_the_localizer_one_by_one(recipe: Path) -> None:
    values = read_recipe(recipe, {"train.options": '{"dropout": 0.1}', "mine.options": '{"background": "none"}'})
    values["variants"]["high"] = {"train": {"options": {"background": "mean"}}, "mine": {"options": {"dropout": 0.3}}}
    settings = parse(ExperimentSettings, values)
    assert settings.train_options("high", 0).options == {"dropout": 0.1, "background": "mean"}
    assert settings.mine_options("high", (1.0,)).options == {"dropout": 0.3, "background": "none"}
    assert settings.train_options("cam", 0).options == {"dropout": 0.1}


# --- a folder in use -------------------------------------------------------------------------------------------------


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def read_refusal(recipe: Path, out: Path, capfd: pytest.CaptureFixture[str], *options: str) -> str:
    """Run an experiment that ends with code 2 and leaves the folder unchanged; returns its message."""
    before = contents(out)
    assert run_command(["experiment", str(recipe), "--out", str(out), *options]) == 2
    assert contents(out) == before
    return " ".join(capfd.readouterr().err.split())


def test_a_second_experiment_does_not_touch_the_runs_of_the_first(
    recipe: Path, copied: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (copied / "made/figures/cam-1-seed0.json").unlink()
    with lock_folder(copied):
        assert "Another process is working on" in read_refusal(recipe, copied, capfd)
    run = Run(copied / "made/runs/cam-1-seed0")
    with run.lock():
        assert "Another process is working on" in read_refusal(recipe, copied, capfd)


def test_a_run_of_another_origin_is_kept(recipe: Path, copied: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (copied / "made/figures/cam-1-seed0.json").unlink()
    run = Run(copied / "made/runs/cam-1-seed0")
    run.update(experiment=None, config={**run.record["config"], "threshold": 0.77})
    assert "a run that this experiment did not mine" in read_refusal(recipe, copied, capfd)


def test_foreign_files_in_a_run_are_kept(recipe: Path, copied: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (copied / "made/figures/cam-1-seed0.json").unlink()
    (copied / "made/runs/cam-1-seed0/parts/notes.txt").write_text("ten years of work")
    assert "notes.txt is no file of the run" in read_refusal(recipe, copied, capfd)


@pytest.mark.parametrize("name", ["table.md", "thesis.tex", "made/notes.txt"])
def test_a_folder_with_other_files_is_refused(
    recipe: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], name: str
) -> None:
    (tmp_path / "out" / name).parent.mkdir(parents=True)
    (tmp_path / "out" / name).write_text("ten years of work")
    assert "holds other things" in read_refusal(recipe, tmp_path / "out", capfd)


def test_an_experiment_of_an_earlier_version_is_continued(recipe: Path, copied: Path) -> None:
    (copied / ".boxmine").unlink()
    assert run_again(recipe, copied) == read_rows(recipe.parent / "results")


@pytest.mark.parametrize("name", ["corpora", "variants"])
def test_names_that_lead_out_of_the_folder_are_refused(
    recipe: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], name: str
) -> None:
    values = yaml.safe_load(recipe.read_text())
    changed = recipe.with_name(f"leading-{name}.yaml")
    changed.write_text(yaml.safe_dump({**values, "baseline": None, name: {"..": next(iter(values[name].values()))}}))
    assert run_command(["experiment", str(changed), "--out", str(tmp_path / "a" / "results")]) == 2
    assert "names a folder" in " ".join(capfd.readouterr().err.split())
    assert not (tmp_path / "a").exists()
