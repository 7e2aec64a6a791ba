"""What a Run object reads from its directory, and when."""

import pickle
from pathlib import Path

import pytest

from mining.errors import DamagedFileError, RunError
from mining.label_store.staleness import settings_that_matter
from mining.runs import run as run_module
from mining.runs.mining_job import finish_mining
from mining.runs.part_origins import PartOrigins
from mining.runs.run import Run
from mining.runs.shard_mining import mine_shard
from mining.storage.integrity import digest_of
from tests.unit.engine.painting import GREEN, RED, list_painted, planned_run, scene

PICTURES = {"a.png": scene(((4, 4, 28, 28), RED)), "b.png": scene(((4, 4, 28, 28), GREEN)), "broken.png": b"?"}


@pytest.fixture
def started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    list_painted(monkeypatch)
    return planned_run(tmp_path, PICTURES, None)


@pytest.fixture
def finished(started: Run) -> Run:
    mine_shard(started, 0)
    finish_mining(started)
    return Run.open(started.path)


def test_the_tables_of_a_finished_run_can_be_read(finished: Run) -> None:
    assert finished.state == "finished"
    assert finished.read_corpus(["file_name"])["file_name"].to_pylist() == list(PICTURES)
    assert len(finished.read_annotations()) == finished.record["counts"]["boxes"] > 0
    assert finished.read_quarantine(["file_name"])["file_name"].to_pylist() == ["broken.png"]
    assert len(finished.read_curves(["image_id"])) > 0
    assert len(finished.read_rankings()) == 2
    assert finished.read_scores() is None
    assert finished.card.localizer == "painted"
    assert finished.image_root == finished.settings.images


def test_a_folder_without_a_record_is_not_opened(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"is not a run directory: it has no run\.json"):
        Run.open(tmp_path)


def test_an_unfinished_run_is_not_opened_as_a_finished_one(started: Run) -> None:
    assert Run.open(started.path).state == "running"
    with pytest.raises(RunError, match=r"is not finished \(state: running\)"):
        Run.open(started.path, finished=True)


def test_a_damaged_table_is_not_read(finished: Run) -> None:
    finished.annotations.write_bytes(finished.annotations.read_bytes()[:-9] + b"\0" * 9)
    with pytest.raises(DamagedFileError, match=r"annotations\.parquet is damaged"):
        finished.read_annotations()


def test_the_error_names_a_missing_column(finished: Run) -> None:
    with pytest.raises(RunError, match=r"annotations\.parquet has no column iou"):
        finished.read_annotations(["score", "iou"])


def test_the_record_is_parsed_again_only_after_it_changed(started: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    reads: list[Path] = []
    read = run_module.read_run_record
    monkeypatch.setattr(run_module, "read_run_record", lambda path: (reads.append(path), read(path))[1])
    run = Run.open(started.path)
    assert run.record is run.record
    assert run.settings is run.settings
    assert len(reads) == 1
    Run(started.path).update(state="stopped")  # as another process would
    assert run.state == "stopped"
    assert len(reads) == 3  # one by the other object, and a second one by this object


def test_a_run_can_be_pickled(started: Run) -> None:
    assert started.record
    sent = pickle.loads(pickle.dumps(started))
    assert (sent.path, sent.record, sent.settings) == (started.path, started.record, started.settings)


RECORDED = {
    "images": "/data/photos", "labels": "/data/labels.csv", "split": None, "min_present": 0.5, "scales": [1.0, 1.5, 2.0],
    "adaptive": None, "localizer": None, "options": {}, "threshold": None, "class_thresholds": {},
    "thresholds_from": None, "normalise": None, "class_cut": None, "max_classes": 5, "min_score": 0.0, "min_area": 0.01,
    "max_area": 1.0, "max_aspect": 12.0, "max_borders": 4, "merge": "nms", "merge_iou": 0.5, "map_side": 280,
    "curves": True, "batch_size": None, "shard_size": 256, "workers": None, "device": "auto", "retries": 2,
    "runner": "local", "runner_workers": None, "cpus_per_worker": None, "gpus_per_worker": None, "ray_address": None,
    "model": "/models/first", "out": "/runs/first",
}  # fmt: skip


def test_digests_of_existing_runs_and_label_stores_are_unchanged(started: Run) -> None:
    # computed by an earlier version; if these digests changed, everything would be mined again
    started.update(config=RECORDED, inputs={"model_sha256": "m", "labels_sha256": None})
    origin = PartOrigins(started).of_rows([])
    assert origin is not None
    assert origin.settings == "c213644e09f9141d1c5e5403412b24ca98f09fcc10f84cd00084a7d4c9d6810f"
    matter = {name: value for name, value in settings_that_matter(started.settings).items() if name in RECORDED}
    assert digest_of(matter) == "e32563ab645ecafad5835e7fe6085dc14b6f168999c596b15ebdea0022ae2587"


def test_a_run_of_an_earlier_version_keeps_its_maps(started: Run) -> None:
    config = {name: value for name, value in started.record["config"].items() if name not in ("refine", "walk_steps")}
    started.update(config=config)
    assert started.settings.refine == "none"


def test_a_run_is_mined_and_drawn_with_the_defaults_that_it_began_with(started: Run) -> None:
    began = {"localizer": "cam", "options": {}, "threshold": 0.11, "scales": [1.0], "refine": "none", "class_cut": 0.3}
    started.update(used=began)
    used = started.settings_used
    assert (used.threshold, used.scales, used.refine, used.class_cut) == (0.11, (1.0,), "none", 0.3)
    assert started.settings.threshold is None, "what was asked for, by which a resumed run is compared"
    started.update(config={**started.record["config"], "threshold": 0.4})
    assert started.settings_used.threshold == 0.4


def test_options_of_another_localizer_stay_what_they_were_when_the_run_began(started: Run) -> None:
    started.update(config={**started.record["config"], "localizer": "ccam", "options": {"top": 2}})
    for began, bottom in (({"top": 2}, 10), ({"top": 2, "bottom": None}, None)):  # of an earlier version, and of this
        started.update(used={"localizer": "ccam", "options": began})
        assert started.settings_used.options == {"top": 2, "bottom": bottom}
