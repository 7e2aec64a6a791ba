"""After any changes of the images, the store holds what mining all of them anew gives."""

from pathlib import Path

import pytest

from tests.unit.label_store.project import GATES_OFF, LabelProject, RandomChanges


@pytest.mark.parametrize("seed", [0, 1, 2, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(3, 40))])
def test_incremental_labelling_gives_the_rows_of_mining_everything(
    project: LabelProject, tmp_path: Path, seed: int
) -> None:
    changes = RandomChanges(project, seed)
    changes.add()
    content_of: dict[int, str] = {}
    for night in range(6):
        changes.apply(changes.random.randrange(8))
        options = {"min_score": 0.2} if night >= 4 else {}
        job = project.run_job(mine=options, gates=GATES_OFF)
        assert (job.deferred, job.tally["listed"]) == (0, len(project.labels or {}))
        rows = project.rows()
        labelled = project.comparable_rows()
        assert labelled == project.mine_from_scratch(tmp_path / f"from-scratch-{night}", **options)
        numbers = [row["annotation_id"] for row in rows if row["annotation_id"] is not None]
        assert len(set(numbers)) == len(numbers) == job.boxes
        assert len({row["image_id"] for row in rows}) == len(labelled) == job.images
        for row in rows:  # a number is never reused for a box of another content
            if row["annotation_id"] is not None:
                assert content_of.setdefault(row["annotation_id"], row["content_hash"]) == row["content_hash"]
        again = project.run_job(mine=options, gates=GATES_OFF)
        assert again.state == "unchanged"
        assert (again.runs, again.images, again.boxes) == ([], job.images, job.boxes)
