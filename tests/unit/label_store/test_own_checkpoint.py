"""A labelling job that mines with a checkpoint of a user's own classifier."""

from pathlib import Path

import torch
import torchvision

from tests.factories import image_with_rectangle
from tests.unit.label_store.project import GATES_OFF, LabelProject


def write_checkpoint(path: Path, seed: int) -> None:
    torch.manual_seed(seed)
    torch.save(torchvision.models.squeezenet1_1(weights=None, num_classes=2).state_dict(), path)


def test_a_job_mines_with_its_checkpoint_and_again_when_the_file_is_replaced(
    project: LabelProject, tmp_path: Path
) -> None:
    checkpoint, names = tmp_path / "own.pth", tmp_path / "names.txt"
    write_checkpoint(checkpoint, seed=0)
    names.write_text("cat\ndog\n")
    for name in ("a.png", "b.png"):
        project.add_image(name, image_with_rectangle(ord(name[0])), "dog")
    mine = {"weights": str(checkpoint), "class_names": names, "localizer": "msrd", "min_area": 0.0}
    job = {"mine": mine, "model": "pretrained:squeezenet1_1", "gates": GATES_OFF}

    first = project.run_job(**job)
    assert (first.state, project.mined_images(*first.runs)) == ("published", ["a.png", "b.png"])
    assert {row["category"] for row in project.rows()} <= {"dog", None}
    assert project.run_job(**job).state == "unchanged"

    write_checkpoint(checkpoint, seed=1)
    assert project.mined_images(*project.run_job(**job).runs) == ["a.png", "b.png"]
