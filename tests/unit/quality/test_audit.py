"""From a plan over verdicts to an estimate, through the files that a person has."""

import csv
import json
import re
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from flows.cli.application import run_command
from mining.config.audit import AuditPlanSettings
from mining.errors import InputError, RunError
from mining.export import export
from mining.quality.audit import estimate_audit
from mining.quality.audit_calibration import calibrate_audit
from mining.quality.planning import plan_audit
from mining.quality.plans import COLUMNS
from mining.quality.recording import record_verdicts
from mining.quality.table import read_quality
from mining.quality.verdicts import VERDICTS_FILE, open_verdicts
from mining.runs.run import Run
from tests.unit.export.conftest import Painted, write_run

Rows = list[dict[str, str]]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return mined_run(tmp_path)


def mined_run(tmp_path: Path) -> Path:
    """120 boxes of two classes on 60 images: those of class 1 that score 0.5 and more are correct."""
    boxes = [((1, 10, 10, 20, 20, (i % 30) / 30), (3, 40, 10, 20, 20, 0.3)) for i in range(60)]
    made = write_run(tmp_path, [Painted(f"{number:02}.jpg", pair) for number, pair in enumerate(boxes)])
    corpus = pq.read_table(made.folder / "corpus.parquet")
    sizes = [(made.images / name).stat().st_size for name in corpus["file_name"].to_pylist()]
    place = corpus.schema.get_field_index("bytes")
    pq.write_table(
        corpus.set_column(place, corpus.schema.field("bytes"), pa.array(sizes)), made.folder / "corpus.parquet"
    )
    return made.folder


def planned(run: Path, name: str = "plan.csv", **options: object) -> Path:
    plan_audit(AuditPlanSettings.model_validate({"run": run, "out": run.parent / name, "seed": 0, **options}))
    return run.parent / name


def read(path: Path) -> Rows:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def fill(path: Path, verdict_of: Callable[[dict[str, str]], str], name: str = "filled.csv") -> Path:
    rows = [{**row, "verdict": verdict_of(row)} for row in read(path)]
    with (path.parent / name).open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    return path.parent / name


def truth(row: dict[str, str]) -> str:
    return "correct" if row["category"] == read_name(1) and float(row["score"]) >= 0.5 else "wrong_place"


def read_name(category: int) -> str:
    from tests.unit.export.conftest import CLASSES

    return next(str(one["name"]) for one in CLASSES if one["id"] == category)


def test_a_plan_lists_boxes_with_their_probability_and_an_empty_verdict(run: Path) -> None:
    rows = read(planned(run, verdicts=40))
    assert len(rows) == 40
    assert {row["inclusion_probability"] for row in rows} == {f"{40 / 120:.6g}"}
    assert {row["verdict"] for row in rows} == {""}
    assert len({row["annotation_id"] for row in rows}) == 40
    assert len({row["plan"] for row in rows}) == 1


def test_verdicts_give_the_precision_of_all_boxes(run: Path) -> None:
    plan = planned(run, verdicts=60)
    summary = record_verdicts(run, fill(plan, truth), "Ada")
    assert (summary.recorded, summary.repeated, summary.pending) == (60, 0, 0)
    found = estimate_audit(run)
    assert found.precision is not None
    assert found.precision.ci95[0] <= 30 / 120 <= found.precision.ci95[1]
    assert found.per_class[read_name(3)] is not None
    assert found.per_class[read_name(3)].value == 0  # type: ignore[union-attr]


def test_the_same_plan_recorded_twice_counts_once(run: Path) -> None:
    filled = fill(planned(run, verdicts=30), truth)
    record_verdicts(run, filled, "Ada")
    before = estimate_audit(run)
    assert record_verdicts(run, filled, "Ada").repeated == 30
    assert estimate_audit(run) == before


def test_a_later_verdict_of_the_same_reviewer_counts(run: Path) -> None:
    plan = planned(run, verdicts=30)
    record_verdicts(run, fill(plan, lambda _: "nothing"), "Ada")
    record_verdicts(run, fill(plan, lambda _: "correct"), "Ada")
    found = estimate_audit(run).precision
    assert found is not None
    assert (found.value, found.verdicts) == (1, 30)


def test_a_verdict_without_its_image_does_not_count_once_another_file_is_there(run: Path) -> None:
    filled = fill(planned(run, verdicts=30), truth)
    image = Run(run).image_root / "00.jpg"
    on_it = sum(row["file_name"] == "00.jpg" for row in read(filled))
    image.unlink()
    record_verdicts(run, filled, "Ada")
    assert estimate_audit(run).changed == 0
    image.write_bytes(b"another image")
    assert estimate_audit(run).changed == on_it > 0


def test_a_half_filled_plan_is_recorded_as_far_as_it_is_filled(run: Path) -> None:
    plan = planned(run, verdicts=40)
    first = {row["annotation_id"] for row in read(plan)[:15]}
    summary = record_verdicts(run, fill(plan, lambda row: truth(row) if row["annotation_id"] in first else ""), "Ada")
    assert (summary.recorded, summary.pending) == (15, 25)
    assert estimate_audit(run).pending == 25


def test_a_second_plan_draws_other_boxes_and_both_count(run: Path) -> None:
    first, second = planned(run, verdicts=40), planned(run, "second.csv", verdicts=40)
    assert not {row["annotation_id"] for row in read(first)} & {row["annotation_id"] for row in read(second)}
    assert {row["inclusion_probability"] for row in read(second)} == {f"{80 / 120:.6g}"}
    for plan in (first, second):
        record_verdicts(run, fill(plan, truth), "Ada")
    found = estimate_audit(run).precision
    assert found is not None
    assert found.verdicts == 80


def test_doubtful_boxes_are_listed_after_the_draw_and_estimate_nothing(run: Path) -> None:
    plan = planned(run, verdicts=20, suspicious=True)
    rows = read(plan)
    assert [row["why"] for row in rows] == ["random"] * 20 + ["suspicious"] * 20
    scores = [float(row["score"]) for row in rows[20:]]
    assert scores == sorted(scores)
    record_verdicts(run, fill(plan, lambda row: "nothing" if row["why"] == "suspicious" else truth(row)), "Ada")
    found = estimate_audit(run).precision
    assert found is not None
    assert found.verdicts == 20
    # drawn at random later, a doubtful box counts only after it was judged for that plan
    later = planned(run, "later.csv", verdicts=100)
    again = estimate_audit(run)
    assert again.precision == found
    record_verdicts(run, fill(later, truth), "Ada")
    after = estimate_audit(run).precision
    assert after is not None
    assert (after.value, after.ci95) == (pytest.approx(30 / 120), pytest.approx((30 / 120, 30 / 120)))


def test_a_calibrated_run_lists_the_least_probable_boxes_first(run: Path) -> None:
    record_verdicts(run, fill(planned(run, verdicts=80), truth), "Ada")
    assert calibrate_audit(run).calibration.is_calibrated
    listed = [row["annotation_id"] for row in read(planned(run, "next.csv", verdicts=10, suspicious=True))[10:]]
    found = read_quality(Run(run))
    probability = dict(zip(found["annotation_id"].to_pylist(), found["p_correct"].to_pylist(), strict=True))
    values = [probability[int(one)] for one in listed]
    assert values == sorted(values)
    assert len(set(values)) > 1


def test_reviewers_who_disagree_are_both_kept(run: Path) -> None:
    plan = planned(run, verdicts=40)
    record_verdicts(run, fill(plan, truth), "Ada")
    ids = [row["annotation_id"] for row in read(plan)]
    record_verdicts(run, fill(plan, lambda row: "unsure" if row["annotation_id"] in ids[:5] else truth(row)), "Bo")
    agreed = estimate_audit(run)
    assert agreed.kappa == {"Ada, Bo": 1.0}
    assert agreed.unsure == 0  # Ada is sure
    contrary = {"correct": "nothing", "wrong_place": "correct"}
    flipped = fill(plan, lambda row: contrary[truth(row)] if row["annotation_id"] in ids[:10] else truth(row))
    record_verdicts(run, flipped, "Bo")
    found = estimate_audit(run)
    assert found.unsure == 10
    assert found.precision is not None
    assert found.precision.verdicts == 30
    assert 0 < found.kappa["Ada, Bo"] < 1


def test_a_corrected_box_is_correct_if_it_is_near_the_mined_one(run: Path) -> None:
    plan = planned(run, verdicts=20)
    rows = read(plan)
    near, far = rows[0]["annotation_id"], rows[1]["annotation_id"]
    moved = [
        {**row, "verdict": "correct", "x": str(float(row["x"]) + {near: 3, far: 12}.get(row["annotation_id"], 0))}
        for row in rows
    ]
    with (run.parent / "moved.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(moved)
    record_verdicts(run, run.parent / "moved.csv", "Ada")
    found = estimate_audit(run).precision
    assert found is not None
    with open_verdicts(run) as store:
        corrected = {one.annotation_id: one.new_x for one in store.judgements() if one.new_x is not None}
    assert set(corrected) == {int(near), int(far)}
    assert found.value < 1
    assert found.verdicts == 20


def test_verdicts_on_images_that_change_do_not_count(run: Path) -> None:
    plan = planned(run, verdicts=30)
    photos = run.parent / "photos"
    rows = read(plan)
    (photos / rows[0]["file_name"]).write_bytes(b"another image")
    on_changed = sum(row["file_name"] == rows[0]["file_name"] for row in rows)
    summary = record_verdicts(run, fill(plan, truth), "Ada")
    assert summary.changed == on_changed
    (photos / rows[-1]["file_name"]).write_bytes(b"another image too")
    found = estimate_audit(run)
    assert found.changed == sum(row["file_name"] == rows[-1]["file_name"] for row in rows)


def test_the_width_that_was_asked_for_decides_how_many_and_when_to_stop(run: Path) -> None:
    plan = planned(run, precision_within=0.1)
    assert len(read(plan)) == 54  # 97 of any number of boxes, fewer of 120
    assert estimate_audit(run).enough is False
    record_verdicts(run, fill(plan, truth), "Ada")
    found = estimate_audit(run)
    assert found.precision is not None
    assert found.enough is (found.precision.half_width <= 0.1)
    assert found.enough
    with pytest.raises(InputError, match="drawn so far are enough"):
        planned(run, "more.csv", precision_within=0.1)


# --- reviews in other tools ------------------------------------------------------------------------------------------


def reviewed_in_label_studio(run: Path, *, every: bool = True) -> Path:
    """What Label Studio exports after a person deleted the boxes of class 3 and moved those of class 1 by 4 px."""
    export(run, "labelstudio", run.parent / "tasks")
    tasks = json.loads((run.parent / "tasks" / "tasks.json").read_text())
    for task in tasks if every else tasks[:5]:
        regions = [one for one in task["predictions"][0]["result"] if one["value"]["rectanglelabels"] == [read_name(1)]]
        for one in regions:
            one["value"]["x"] += 4
        task["annotations"] = [{"result": regions, "was_cancelled": False}]
    (run.parent / "review.json").write_text(json.dumps(tasks))
    return run.parent / "review.json"


def test_a_review_in_label_studio_is_recorded_for_the_plans_that_it_covers(run: Path) -> None:
    planned(run, verdicts=30)
    summary = record_verdicts(run, reviewed_in_label_studio(run), "Ada")
    assert (summary.recorded, summary.images, summary.pending) == (120, 60, 0)
    with open_verdicts(run) as store:
        judgements, drawn = store.judgements(), store.drawn_at_random()
    assert {one.annotation_id for one in judgements if one.why == "random"} == set(drawn)
    assert {(one.why, one.plan) for one in judgements if one.annotation_id not in drawn} == {("review", "")}
    assert {one.verdict for one in judgements if one.category == read_name(3)} == {"nothing"}
    moved = [one for one in judgements if one.category == read_name(1)]
    assert {one.verdict for one in moved} == {"correct"}
    assert all(one.new_x is not None and one.new_x > one.x for one in moved)
    estimate = estimate_audit(run)
    assert estimate.precision is not None
    assert estimate.precision.verdicts == 30
    assert estimate.per_class[read_name(3)] is not None
    assert estimate.per_class[read_name(3)].value == 0  # type: ignore[union-attr]


def test_a_part_of_a_review_is_kept_but_is_no_random_draw(run: Path) -> None:
    review = reviewed_in_label_studio(run, every=False)
    summary = record_verdicts(run, review, "Ada")
    assert summary.notes[1:] == [
        f"{summary.recorded} boxes that no plan asks for were judged; `boxmine audit apply` uses them, estimates do not."
    ]
    planned(run, verdicts=40)
    summary = record_verdicts(run, review, "Ada")
    assert re.search(r"lacks \d+ boxes of the plan \w+: because people choose", summary.notes[1])
    assert (summary.recorded, summary.pending) == (0, 40)
    assert estimate_audit(run).precision is None


def test_a_record_that_a_full_disk_left_empty_is_read_as_none_and_written_later(run: Path) -> None:
    (run / VERDICTS_FILE).touch()
    assert estimate_audit(run).precision is None
    assert (run / VERDICTS_FILE).read_bytes() == b""
    record_verdicts(run, fill(planned(run, verdicts=20), truth), "Ada")
    assert estimate_audit(run).precision is not None


def test_verdicts_of_version_1_are_read_and_brought_up_to_date(run: Path) -> None:
    record_verdicts(run, fill(planned(run, verdicts=20), truth), "Ada")
    before = estimate_audit(run)
    with sqlite3.connect(run / VERDICTS_FILE) as connection:
        for statement in (
            "ALTER TABLE verdicts DROP COLUMN new_category",
            "DROP TABLE images",
            "DROP TABLE drawn_images",
        ):
            connection.execute(statement)
        connection.execute("PRAGMA user_version = 1")
    connection.close()
    content = (run / VERDICTS_FILE).read_bytes()
    assert estimate_audit(run) == before
    assert (run / VERDICTS_FILE).read_bytes() == content  # reading changes nothing
    record_verdicts(run, fill(planned(run, "second.csv", verdicts=10), truth), "Ada")
    found = estimate_audit(run).precision
    assert found is not None
    assert found.verdicts == 30


# --- bad input -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("verdict", "corect", r"line 3, column verdict: 'corect'; did you mean 'correct'"),
        ("plan", "other", r"line 3, column plan: 'other' is no plan of"),
        ("annotation_id", "9999", r"line 3, column annotation_id: the plan \w+ has no box 9999"),
        ("annotation_id", "", r"line 3, column annotation_id: it is empty; \w+ is a verdict on a box"),
        ("annotation_id", "first", r"line 3, column annotation_id: 'first' is not a number"),
        ("verdict", "missed", r"line 3, column verdict: missed is no verdict on a box"),
        ("category", "bird", r"line 3, column category: 'bird' is not the class of the box"),
        ("x", "left", r"line 3, column x: 'left' is not a number"),
        ("w", "0", r"line 3, columns w and h"),
        ("h", "nan", r"line 3, column h: 'nan' is not a number"),
    ],
)
def test_an_invalid_row_is_named_and_nothing_is_recorded(run: Path, column: str, value: str, message: str) -> None:
    filled = fill(planned(run, verdicts=10), truth)
    rows = read(filled)
    rows[1][column] = value
    with filled.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    with pytest.raises(InputError, match=message):
        record_verdicts(run, filled, "Ada")
    assert estimate_audit(run).precision is None


def test_other_files_are_no_plans(run: Path, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("file_name,labels\n")
    (tmp_path / "b.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="has no column annotation_id"):
        record_verdicts(run, tmp_path / "a.csv", "Ada")
    with pytest.raises(InputError, match="UTF-8"):
        record_verdicts(run, tmp_path / "b.csv", "Ada")
    with pytest.raises(InputError, match="Cannot read"):
        record_verdicts(run, tmp_path / "none.csv", "Ada")
    with pytest.raises(InputError, match="reviewer"):
        record_verdicts(run, tmp_path / "a.csv", " ")


def test_a_spreadsheet_may_write_semicolons_and_decimal_commas(run: Path) -> None:
    rows = read(fill(planned(run, verdicts=10), truth))
    lines = [";".join(COLUMNS), *(";".join(row[name].replace(".", ",") if name in "xywh" else row[name] for name in COLUMNS) for row in rows)]  # fmt: skip
    (run.parent / "sheet.csv").write_text("\ufeff" + "\r\n".join(lines), encoding="utf-8")
    assert record_verdicts(run, run.parent / "sheet.csv", "Ada").recorded == 10


def test_a_plan_is_not_written_over_a_file(run: Path) -> None:
    planned(run, verdicts=10)
    with pytest.raises(InputError, match="may have verdicts in it"):
        planned(run, verdicts=10)


def test_a_run_without_boxes_and_a_damaged_file_are_refused(run: Path, tmp_path: Path) -> None:
    empty = write_run(tmp_path / "empty", [Painted("a.jpg", ())]).folder
    with pytest.raises(InputError, match="no box to judge"):
        planned(empty)
    (run / VERDICTS_FILE).write_bytes(b"no database" * 100)
    with pytest.raises(InputError, match="damaged"):
        estimate_audit(run)
    (run / "run.json").write_text(json.dumps({"format": "boxmine-run/1", "state": "running"}))
    with pytest.raises(RunError, match="not finished"):
        estimate_audit(run)


def test_the_commands(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = run.parent / "plan.csv"
    assert run_command(["audit", "plan", str(run), "--verdicts", "30", "--out", str(out), "--seed", "1"]) == 0
    assert run_command(["audit", "record", str(run), str(fill(out, truth)), "--reviewer", "Ada"]) == 0
    capsys.readouterr()
    assert run_command(["audit", "estimate", str(run)]) == 0
    shown = capsys.readouterr()
    assert "95 % interval" in shown.out
    assert "more verdicts would halve" in " ".join(shown.err.split())
    assert run_command(["audit", "estimate", str(run), "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["precision"]["verdicts"] == 30
    assert run_command(["audit", "plan", str(run), "--verdicts", "3", "--precision-within", "0.1", "--out", "x"]) == 2
    assert "not both" in capsys.readouterr().err
