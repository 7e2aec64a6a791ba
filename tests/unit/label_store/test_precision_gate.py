"""A version is published once people have found enough of its new boxes correct."""

import json
from pathlib import Path
from typing import Any

import pytest

from flows.cli.application import run_command
from mining.config import parse
from mining.errors import InputError
from mining.label_store import publish
from mining.label_store.cleanup import clean
from mining.label_store.delta_table import LabelStore, Version
from mining.label_store.reading import history
from mining.label_store.settings import LabelSettings
from mining.label_store.summaries import GateResult, LabelSummary
from mining.quality.audit import estimate_audit
from tests.unit.engine.painting import black
from tests.unit.label_store.project import GATES_OFF, LabelProject
from tests.unit.label_store.test_publish import red
from tests.unit.label_store.verdicts import draw, judge, record

GATES = {**GATES_OFF, "min_precision": 0.8}


def add(project: LabelProject, count: int, first: int = 0) -> None:
    """Add images with one box each."""
    for number in range(first, first + count):
        project.add_image(f"{number:03}.png", red(255 - number))


def job(project: LabelProject, **options: Any) -> LabelSummary:
    return project.run_job(**{"gates": GATES, **options})


def only_run(project: LabelProject) -> Path:
    (run,) = project.runs.glob("images-*")
    return run


def gate(summary: LabelSummary) -> GateResult:
    (found,) = (one for one in summary.gates if one.gate == "min_precision")
    return found


def wrong_from(first: int) -> Any:
    """Find the boxes on images from this number on wrong."""
    return lambda row: "nothing" if int(row["file_name"][:3]) >= first else "correct"


@pytest.fixture
def staged(project: LabelProject) -> LabelProject:
    """Thirty boxes in one run that nobody has judged."""
    add(project, 30)
    assert job(project).state == "staged"
    return project


def test_without_verdicts_the_version_is_staged_and_the_next_commands_are_named(staged: LabelProject) -> None:
    summary, run = job(staged), only_run(staged)
    assert (summary.state, summary.version, gate(summary).value) == ("staged", None, None)
    assert "none of the 30 new boxes has a verdict" in gate(summary).meaning
    assert summary.steps[1:3] == [
        f"  boxmine audit plan {run} --precision-within 0.1 --out {run.name}.csv",
        f"  boxmine audit record {run} {run.name}.csv --reviewer NAME",
    ]
    assert "boxmine label RECIPE" in summary.steps[-1]


def test_after_the_verdicts_the_same_job_publishes_the_staged_run_and_mines_nothing(staged: LabelProject) -> None:
    run = only_run(staged)
    judge(run)
    parts = {path: path.stat().st_mtime_ns for path in run.rglob("part-*")}
    summary = job(staged)
    assert (summary.state, summary.runs, summary.boxes) == ("published", [run.name], 30)
    assert only_run(staged) == run
    assert {path: path.stat().st_mtime_ns for path in run.rglob("part-*")} == parts
    assert (gate(summary).value, gate(summary).passed) == (1.0, True)
    assert job(staged).state == "unchanged"


def test_the_lower_end_is_compared_and_not_the_share_itself(project: LabelProject) -> None:
    add(project, 120)
    job(project)
    judge(only_run(project), wrong_from(104), verdicts=30)
    summary = job(project)
    assert summary.precision is not None
    low, high = summary.precision["ci95"]
    assert low < 0.8 < summary.precision["value"] <= high
    assert (summary.state, gate(summary).value) == ("staged", low)
    assert 0 < float(summary.steps[0].split()[1]) <= 90, "so many more verdicts might be enough"
    assert f"--out {only_run(project).name}-30.csv" in summary.steps[1]
    assert job(project, gates={**GATES, "min_precision": low}).state == "published"


def test_more_verdicts_can_change_the_result(project: LabelProject) -> None:
    add(project, 120)
    job(project)
    run = only_run(project)
    judge(run, wrong_from(104), verdicts=30)
    more = int(job(project).steps[0].split()[1])
    record(run, draw(run, "more.csv", verdicts=90), wrong_from(104))
    summary = job(project)
    assert (summary.state, gate(summary).value) == ("published", pytest.approx(104 / 120))
    assert more <= 90


def test_where_more_verdicts_cannot_help_the_output_says_so(staged: LabelProject) -> None:
    judge(only_run(staged), wrong_from(15))
    summary = job(staged)
    assert (summary.state, gate(summary).value) == ("staged", pytest.approx(0.5))
    assert len(summary.steps) == 1
    assert "More verdicts will hardly change that: the precision is 0.500" in summary.steps[0]


def test_unsure_verdicts_count_for_nothing_and_are_named(staged: LabelProject) -> None:
    judge(only_run(staged), lambda row: "unsure" if int(row["file_name"][:3]) < 15 else "correct")
    summary = job(staged, gates={**GATES, "min_precision": 0.95})
    assert summary.state == "staged"
    assert summary.steps == [
        "All of these boxes were drawn.",
        "15 boxes count for nothing: unsure, or as many reviewers for as against.",
    ]


def test_a_person_can_publish_all_the_same(staged: LabelProject) -> None:
    summary = job(staged, accept=True)
    assert (summary.state, gate(summary).passed, summary.steps) == ("published", False, [])
    (version,) = history(str(staged.store))
    assert version["accepted"]
    assert version["precision"] is None
    assert "min_precision" in [one["gate"] for one in version["gates"] if not one["passed"]]


def test_the_gate_is_off_by_default(project: LabelProject) -> None:
    add(project, 3)
    summary = job(project, gates=GATES_OFF)
    assert (summary.state, summary.gates, summary.precision) == ("published", [], None)


# --- which verdicts count --------------------------------------------------------------------------------------------


def test_doubtful_boxes_do_not_pass_the_gate(staged: LabelProject) -> None:
    run = only_run(staged)
    rows = draw(run, verdicts=15, suspicious=True)
    record(run, rows, lambda row: "correct" if row["why"] == "suspicious" else "")
    summary = job(staged)
    assert (summary.state, gate(summary).value) == ("staged", None)
    assert "15 boxes of" in summary.steps[0]


def test_verdicts_on_an_image_that_changed_do_not_count(project: LabelProject) -> None:
    add(project, 4)
    job(project)
    run = only_run(project)
    judge(run)
    for number in range(3):
        project.add_image(f"{number:03}.png", red(200 - number))
    summary = job(project)
    assert summary.state == "staged"
    found = {one["run"]: (one["boxes"], one["verdicts"]) for one in summary.precision["runs"]}  # type: ignore[index]
    assert found.pop(run.name) == (1, 1), "of the first run one box is left"
    assert [*found.values()] == [(3, 0)]
    assert gate(summary).value == pytest.approx(0.25)


def test_an_image_that_is_replaced_just_before_publishing_does_not_count(
    staged: LabelProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    judge(only_run(staged))
    compare = publish.compare_snapshots

    def replaced_after_listing(*arguments: Any) -> Any:
        add(staged, 30, first=100)
        for number in range(30):
            (staged.photos / f"{100 + number:03}.png").rename(staged.photos / f"{number:03}.png")
        return compare(*arguments)

    monkeypatch.setattr(publish, "compare_snapshots", replaced_after_listing)
    summary = job(staged)
    assert (summary.state, gate(summary).value) == ("staged", None)


def test_boxes_of_images_that_are_gone_do_not_count(staged: LabelProject) -> None:
    judge(only_run(staged), wrong_from(20))
    assert job(staged).state == "staged"
    for number in range(20, 30):
        staged.delete_image(f"{number:03}.png")
    summary = job(staged)
    assert (summary.state, summary.boxes, gate(summary).value) == ("published", 20, pytest.approx(1.0))


def test_a_renamed_image_keeps_its_verdict(staged: LabelProject) -> None:
    judge(only_run(staged))
    for number in range(30):
        staged.rename_image(f"{number:03}.png", f"renamed-{number}.png")
    assert (summary := job(staged)).state == "published"
    assert gate(summary).value == 1.0


def test_half_a_plan_counts_with_the_interval_that_is_valid_at_every_look(project: LabelProject) -> None:
    add(project, 200)
    gates = {**GATES, "min_precision": 0.99}
    job(project, gates=gates)
    run = only_run(project)
    rows = draw(run, verdicts=120)
    first = {row["annotation_id"] for row in rows[:60]}
    record(run, rows, lambda row: "correct" if row["annotation_id"] in first else "")
    half = job(project, gates=gates)
    assert half.precision is not None
    assert "60 boxes of" in half.steps[0]
    assert f"boxmine audit record {run} PLAN.csv" in half.steps[1]
    own = estimate_audit(run).precision
    assert own is not None
    assert half.precision["ci95"] == pytest.approx(own.ci95_any_time)
    record(run, rows)
    assert gate(job(project, gates=gates)).value > half.precision["ci95"][0]  # type: ignore[operator]


# --- several runs ----------------------------------------------------------------------------------------------------


def test_runs_count_by_their_boxes(staged: LabelProject) -> None:
    judge(only_run(staged))
    add(staged, 10, first=30)
    summary = job(staged, gates={**GATES, "min_precision": 0.9})
    assert (summary.state, gate(summary).value) == ("staged", pytest.approx(0.75))
    assert "10 boxes of runs with too few verdicts count as wrong" in gate(summary).meaning
    first, second = sorted(staged.runs.glob("images-*"))
    assert [step.split()[3].rpartition("/")[2] for step in summary.steps[1:3]] == [second.name] * 2, (
        "only what is missing"
    )
    judge(second, lambda row: "nothing" if row["file_name"] in ("030.png", "031.png") else "correct")
    summary = job(staged, gates={**GATES, "min_precision": 0.9})
    assert (summary.state, gate(summary).value) == ("published", pytest.approx(38 / 40))
    assert sorted(summary.runs) == [first.name, second.name]


def test_few_boxes_without_verdicts_do_not_stop_a_version(staged: LabelProject) -> None:
    judge(only_run(staged))
    add(staged, 2, first=30)
    summary = job(staged)
    assert (summary.state, gate(summary).value) == ("published", pytest.approx(30 / 32))


def test_a_single_new_box_can_be_judged(staged: LabelProject) -> None:
    job(staged, accept=True)
    add(staged, 1, first=30)
    assert job(staged).state == "staged"
    judge(max(staged.runs.glob("images-*")))
    assert gate(job(staged)).value == 1.0


def test_a_version_without_new_boxes_passes(staged: LabelProject) -> None:
    job(staged, accept=True)
    staged.delete_image("000.png")
    staged.rename_image("001.png", "renamed.png")
    summary = job(staged)
    assert (summary.state, gate(summary).note) == ("published", "no new boxes")
    staged.add_image("black.png", black())
    summary = job(staged)
    assert (summary.state, gate(summary).note, gate(summary).passed) == ("published", "no new boxes", True)


# --- faults ----------------------------------------------------------------------------------------------------------


def test_verdicts_outlive_a_job_that_is_killed_while_it_publishes(
    staged: LabelProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = only_run(staged)
    judge(run)
    for name in ("record_intention", "record_publication"):
        with monkeypatch.context() as patched:
            patched.setattr(publish, name, lambda *_: (_ for _ in ()).throw(KeyboardInterrupt()))
            with pytest.raises(KeyboardInterrupt):
                job(staged)
    assert staged.latest_version() == 0
    assert (job(staged).state, only_run(staged)) == ("unchanged", run)
    assert len(staged.rows()) == 30
    assert history(str(staged.store))[0]["precision"]["value"] == 1.0


def test_a_job_that_is_overtaken_judges_what_is_left_for_it(
    staged: LabelProject, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    judge(only_run(staged))
    (tmp_path / "other").mkdir()
    other = LabelProject(tmp_path / "other")
    other.photos, other.store, other.model = staged.photos, staged.store, staged.model
    publish_version, overtaken = LabelStore.publish, []

    def publish_second(self: LabelStore, base: Version, *rest: Any) -> int:
        if not overtaken:
            overtaken.append(True)
            assert job(other, gates=GATES_OFF).state == "published"
        return publish_version(self, base, *rest)

    monkeypatch.setattr(LabelStore, "publish", publish_second)
    summary = job(staged)
    assert (summary.state, summary.version, summary.precision) == ("unchanged", 0, None)
    assert len(staged.rows()) == 30


def test_cleaning_keeps_runs_with_verdicts(staged: LabelProject) -> None:
    job(staged, accept=True)
    add(staged, 3, first=30)
    job(staged)
    judged = max(staged.runs.glob("images-*"))
    draw(judged)
    assert job(staged, keep_runs=1).state == "staged"
    cleaned = clean(staged.settings(), 0)
    assert judged.is_dir()
    assert any(judged.name in note for note in cleaned.notes)


def test_damaged_verdicts_stop_the_job_with_a_sentence(staged: LabelProject) -> None:
    (only_run(staged) / "verdicts.sqlite").write_bytes(b"no database" * 100)
    with pytest.raises(InputError, match=r"verdicts.sqlite is damaged"):
        job(staged)


@pytest.mark.parametrize("limit", [80, -0.1, "high"])
def test_a_limit_that_is_no_share_is_refused(project: LabelProject, limit: object) -> None:
    add(project, 1)
    values = project.settings().model_dump()
    with pytest.raises(InputError, match=r"gates\.min_precision"):
        parse(LabelSettings, {**values, "gates": {"min_precision": limit}})


# --- what people see -------------------------------------------------------------------------------------------------


def test_status_and_record_name_the_figures(
    staged: LabelProject, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(staged.folder)
    assert run_command(["status", "runs"]) == 0
    shown = capsys.readouterr()
    assert "min_precision - (limit 0.800)" in shown.out
    assert "boxmine audit plan runs/images-00001" in shown.err
    judge(only_run(staged), wrong_from(27))
    assert run_command(["status", "runs"]) == 0
    shown = capsys.readouterr()
    assert "Verdicts were recorded since: run `boxmine label RECIPE` again." in shown.err
    assert "boxmine audit plan" not in shown.err
    job(staged)
    assert run_command(["status", "labels"]) == 0
    assert "90.0% (90.0% to 90.0%), 30 verdicts" in capsys.readouterr().out
    assert run_command(["status", "labels", "--json"]) == 0
    (version,) = json.loads(capsys.readouterr().out)
    assert version["precision"]["verdicts"] == 30
    (own,) = (one for one in version["gates"] if one["gate"] == "min_precision")
    assert (own["value"], own["limit"], own["passed"]) == (pytest.approx(0.9), 0.8, True)


def test_the_precision_stands_in_the_record_and_report_without_the_gate(
    staged: LabelProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    judge(only_run(staged), wrong_from(27))
    summary = job(staged, gates=GATES_OFF)
    assert summary.gates == []
    (version,) = history(str(staged.store))
    assert version["precision"]["value"] == pytest.approx(0.9)
    monkeypatch.chdir(staged.folder)
    assert run_command(["report", "labels"]) == 0
    page = (staged.folder / "images@0.html").read_text()
    assert "correct as mined, by verdicts <small>95 %: 90.0 to 90.0" in page
    assert "People judged 30 of 30 boxes of this version as they were mined" in page
    assert "it is not known how many" not in page
