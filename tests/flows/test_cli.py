"""The command line, as people and scripts use it."""

import csv
import json
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from pycocotools.coco import COCO

from boxmine import Run
from flows.cli import application, terminal
from flows.cli.application import run_command
from mining.backbones.registry import BACKBONES, TRANSFORMERS
from mining.localizers.registry import LOCALIZERS
from mining.storage.locks import lock_folder
from mining.synthetic import generate
from tasks import progress

QUICK = ["--epochs", "1", "--workers", "0", "--validation-share", "0"]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    generate(folder, images=12, seed=2)
    return folder


@pytest.fixture(scope="module")
def model(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("models") / "model"
    labels = str(corpus / "labels.csv")
    assert (
        run_command(["train", "--images", str(corpus / "images"), "--labels", labels, "--out", str(out), *QUICK]) == 0
    )
    return out


@pytest.fixture(scope="module")
def run(corpus: Path, model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "run"
    command = [
        "mine",
        "--images",
        str(corpus / "images"),
        "--labels",
        str(corpus / "labels.csv"),
        "--model",
        str(model),
    ]
    assert run_command([*command, "--out", str(out), "--scales", "1,1.5"]) == 0
    return out


def test_a_training_writes_the_model_and_its_history(model: Path) -> None:
    assert {"model.json", "weights.safetensors", "history.csv", "curves.png"} == {p.name for p in model.iterdir()}
    with (model / "history.csv").open() as file:
        assert [row["epoch"] for row in csv.DictReader(file)] == ["1"]


def test_the_run_directory_has_the_documented_files(run: Path) -> None:
    names = {path.name for path in run.iterdir()} - {"scores.json", "report"}
    assert names == {"run.json", "corpus.parquet", "model", "parts", "quarantine.parquet", "annotations.parquet",
                     "curves.parquet", "rankings.parquet", "annotations.json", "log.jsonl"}  # fmt: skip
    record = json.loads((run / "run.json").read_text())
    assert record["config"]["scales"] == [1.0, 1.5]
    assert len(COCO(run / "annotations.json").anns) == record["counts"]["boxes"] > 0


def test_a_run_keeps_threshold_curves_and_the_likeliest_classes(run: Path) -> None:
    corpus = pq.read_table(run / "corpus.parquet").to_pylist()
    curves = pq.read_table(run / "curves.parquet").to_pylist()
    names = {row["id"]: row["name"] for row in json.loads((run / "model" / "model.json").read_text())["classes"]}
    asked = [(row["image_id"], label) for row in corpus for label in row["labels"]]
    assert sorted((row["image_id"], names[row["category_id"]]) for row in curves) == sorted(asked)
    rankings = pq.read_table(run / "rankings.parquet").to_pylist()
    assert [row["image_id"] for row in rankings] == [row["image_id"] for row in corpus]
    for row in rankings:
        assert len(set(row["category_ids"])) == min(5, len(names))
        assert set(row["category_ids"]) <= set(names)
        assert row["probabilities"] == sorted(row["probabilities"], reverse=True)


def test_score_with_maps_adds_the_papers_metrics(run: Path, corpus: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["score", str(run), "--truth", str(corpus / "truth.json")]
    assert run_command([*command, "--maps"]) == 0
    captured = capsys.readouterr()
    assert "MaxBoxAccV2" in captured.out
    assert "maps: " in captured.err
    maps = json.loads((run / "scores.json").read_text())["maps"]
    scores = json.loads((run / "scores.json").read_text())
    assert maps["pairs"] + maps["pairs_without_map"] == scores["corloc"]["pairs"]
    assert run_command(command) == 0
    assert json.loads((run / "scores.json").read_text())["maps"] is None


def test_compare_prints_a_table_or_json_and_the_path_of_its_page(
    run: Path, corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["compare", str(run), str(run), "--truth", str(corpus / "truth.json"), "--out", str(tmp_path / "p.html")]
    assert run_command(command) == 0
    captured = capsys.readouterr()
    assert "Moved" in captured.out
    assert "the interval includes 0" in " ".join(captured.out.split())
    assert f"The page is {tmp_path / 'p.html'}." in " ".join(captured.err.split())
    assert run_command([*command, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["truth"]["corloc_0.5"]["difference"] == 0
    assert (tmp_path / "p.html").stat().st_size > 5000
    assert run_command(["compare", str(run), str(tmp_path)]) == 2
    assert "is not a run directory" in capsys.readouterr().err


def test_score_prints_a_table_or_the_file(run: Path, corpus: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["score", str(run), "--truth", str(corpus / "truth.json"), "--json"]) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out) == json.loads((run / "scores.json").read_text())
    assert run_command(["score", str(run), "--truth", str(corpus / "truth.json")]) == 0
    captured = capsys.readouterr()
    figures = ("CorLoc", "Precision", "Instance recall", "Over best baseline", "Boxes scored", "minimum score")
    assert all(figure in captured.out for figure in figures)
    assert "AP50" not in captured.out
    assert "Next: " in captured.err
    assert "--all" in captured.err
    assert run_command(["score", str(run), "--truth", str(corpus / "truth.json"), "--all"]) == 0
    captured = capsys.readouterr()
    for figure in ("CorLoc", "Baseline: whole image", "AP50"):
        assert figure in captured.out


def test_mining_a_finished_run_again_prints_its_summary(
    run: Path, corpus: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [
        "mine",
        "--images",
        str(corpus / "images"),
        "--labels",
        str(corpus / "labels.csv"),
        "--model",
        str(model),
    ]
    assert run_command([*command, "--out", str(run), "--scales", "1,1.5", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["images"] == 12
    assert answer["boxes"] > 0


def test_explain_speed_prints_the_seconds_of_each_stage(
    run: Path, corpus: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["mine", "--images", str(corpus / "images"), "--labels", str(corpus / "labels.csv"), "--model"]
    assert run_command([*command, str(model), "--out", str(run), "--scales", "1,1.5", "--explain-speed"]) == 0
    captured = capsys.readouterr()
    seconds = {row.split()[0]: float(row.split()[1]) for row in captured.out.splitlines()[1:]}
    stages = ["decode", "resize", "copy", "network", "maps", "refine", "regions", "write", "waiting"]
    assert list(seconds) == ["all", *stages]
    assert sum(seconds[stage] for stage in stages) == pytest.approx(seconds["all"], abs=0.1)
    times = float(captured.err.split(" times as long as the layers of the network alone")[0].split()[-1])
    assert times == pytest.approx(seconds["all"] / seconds["network"], rel=0.05)


def test_explain_speed_reports_a_run_without_times(
    run: Path, corpus: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old = tmp_path / "old"
    shutil.copytree(run, old)
    record = json.loads((old / "run.json").read_text())
    del record["timing"]
    (old / "run.json").write_text(json.dumps(record))
    command = ["mine", "--images", str(corpus / "images"), "--labels", str(corpus / "labels.csv"), "--model"]
    assert run_command([*command, str(model), "--out", str(old), "--scales", "1,1.5", "--explain-speed"]) == 0
    assert "is not recorded" in capsys.readouterr().err


def test_status_report_and_export(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["status", str(run), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["state"], found["images"], found["done"], found["quarantined"]) == ("finished", 12, 12, 0)
    assert run_command(["status", str(run)]) == 0
    assert "12 of 12 done (100.0%)" in capsys.readouterr().out
    assert run_command(["report", str(run)]) == 0
    assert (run / "report" / "index.html").stat().st_size > 10_000
    for kind, product in (("coco", "annotations"), ("yolo", "data.yaml"), ("voc", "VOCdevkit")):
        assert run_command(["export", str(run), "--format", kind, "--out", str(tmp_path / kind)]) == 0
        assert (tmp_path / kind / product).exists(), sorted((tmp_path / kind).iterdir())


def test_warnings_of_a_run_are_shown_wherever_it_is_looked_at(
    run: Path, corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    record = json.loads((copy / "run.json").read_text())
    warning = "All boxes cover 95% of their image or more. Look at some <b>."
    (copy / "run.json").write_text(json.dumps({**record, "warnings": [warning]}))
    truth = str(corpus / "truth.json")
    shown = f"Warning: {warning}"
    for words in (["status", str(copy)], ["score", str(copy), "--truth", truth], ["report", str(copy)]):
        assert run_command(words) == 0
        captured = capsys.readouterr()
        if words[0] == "status":
            assert warning in " ".join(captured.out.split())
        elif words[0] == "score":
            assert shown in " ".join(captured.err.split())
    assert warning.replace("<b>", "&lt;b&gt;") in (copy / "report" / "index.html").read_text()
    assert run_command(["status", str(copy), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["warnings"] == [warning]
    assert json.loads((copy / "scores.json").read_text())["warnings"] == [warning]
    assert Run(copy).warnings == Run(copy).scores.warnings == [warning]


def test_a_run_of_an_earlier_version_has_no_warnings(run: Path, tmp_path: Path) -> None:
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    record = json.loads((copy / "run.json").read_text())
    del record["warnings"]
    (copy / "run.json").write_text(json.dumps(record))
    assert Run(copy).warnings == []
    assert run_command(["report", str(copy)]) == 0


def test_a_recipe_with_changes(corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        f"out: unused\ncorpus: {{images: {corpus}/images, labels: {corpus}/labels.csv}}\n"
        f"train: {{epochs: 30, workers: 0, validation_share: 0}}\nmine: {{scales: [1]}}\ntruth: {corpus}/truth.json\n"
    )
    out = tmp_path / "out"
    assert run_command(["run", str(recipe), "--out", str(out), "--set", "train.epochs=1", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert 0 <= answer["scores"]["corloc"]["value"] <= 1
    assert (out / "report" / "index.html").exists()
    assert json.loads((out / "model" / "model.json").read_text())["training"]["epochs"] == 1
    assert not (tmp_path / "unused").exists()


@pytest.mark.parametrize(("command", "names"), [("localizers", LOCALIZERS), ("backbones", [*BACKBONES, *TRANSFORMERS])])
def test_lists_have_one_line_per_entry(command: str, names: Iterable[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command([command]) == 0
    first_words = [line.split()[0] for line in capsys.readouterr().out.splitlines() if line.strip()]
    assert [first_words.count(name) for name in names] == [1 for _ in names]


def test_help_loads_neither_torch_nor_prefect() -> None:
    code = (
        "import sys; from flows.cli.application import run_command; run_command(['--help']); print(sorted(sys.modules))"
    )
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "'cyclopts'" in loaded
    assert not {"torch", "prefect", "pandas", "lightning"} & set(loaded.split("[")[-1].replace("'", "").split(", "))


# --- folders in use --------------------------------------------------------------------------------------------------


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def read_stderr(capsys: pytest.CaptureFixture[str]) -> str:
    return " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize("command", ["mine", "train", "run", "demo", "export"])
def test_a_folder_with_other_files_is_refused_and_left_unchanged(
    run: Path, corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    out = tmp_path / "thesis"
    for name in ("model/weights.safetensors", "checkpoints/last.ckpt", "corpus/labels.csv", "run/a.txt", ".tmp-1-b"):
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_text("ten years of work")
    before = contents(out)
    photos = ["--images", str(corpus / "images"), "--labels", str(corpus / "labels.csv")]
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(f"corpus: {{images: {corpus}/images, labels: {corpus}/labels.csv}}\n")
    commands = {
        "mine": ["mine", *photos, "--model", "pretrained:efficientnet_lite0"], "train": ["train", *photos, *QUICK],
        "run": ["run", str(recipe)], "demo": ["demo"], "export": ["export", str(run), "--format", "coco"],
    }  # fmt: skip
    assert run_command([*commands[command], "--out", str(out)]) == 2
    assert contents(out) == before
    assert "a new or an empty folder" in (text := read_stderr(capsys)) or "not an empty folder" in text


@pytest.mark.parametrize("name", ["corpus", "run"])
def test_a_demo_in_a_used_folder_is_refused_in_a_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    with lock_folder(tmp_path):
        assert run_command(["demo", "--out", str(tmp_path)]) == 2
    assert "Another process is working on" in read_stderr(capsys)
    (tmp_path / name).mkdir()
    (tmp_path / name / "labels.csv").write_text("theirs")
    assert run_command(["demo", "--out", str(tmp_path)]) == 2
    assert contents(tmp_path) == {f"{name}/labels.csv": b"theirs"}


def test_a_lost_interrupt_stops_the_command_at_the_next_report_of_progress(monkeypatch: pytest.MonkeyPatch) -> None:
    """Python drops what a signal handler raises inside a finalizer; the request to stop must not be lost with it."""
    monkeypatch.setattr(terminal, "interrupt_requested", threading.Event())
    monkeypatch.setattr(application, "interrupt_requested", terminal.interrupt_requested)
    with terminal.ProgressView():
        stage = progress.Stage("mine", 3)
        stage.advance(1)
        with suppress(KeyboardInterrupt):
            application._interrupt()
        with pytest.raises(KeyboardInterrupt):
            stage.advance(1)
