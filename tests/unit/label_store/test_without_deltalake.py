"""Everything but the label store works without deltalake, which the extra `store` installs."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.unit.engine.painting import list_painted, painted_model, scene

ROOT = Path(__file__).parents[3]
WITHOUT_DELTALAKE = """
import json, sys
sys.modules["deltalake"] = None  # as if it were not installed
import pytest
from flows.cli.application import run_command
from flows.label import label
from flows.mine import mine
from mining.config import MineSettings
from mining.errors import InputError
from mining.label_store.settings import LabelSettings
from tests.unit.engine.painting import list_painted
mining, labelling, commands = json.loads(sys.argv[1])
with pytest.MonkeyPatch.context() as patch:
    list_painted(patch)
    mine(MineSettings(**mining))
    try:
        label(LabelSettings(**labelling))
    except InputError as error:
        print(error, file=sys.stderr)
print(json.dumps([run_command(command) for command in commands]))
"""


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    from PIL import Image

    folder = tmp_path / "photos"
    folder.mkdir()
    Image.fromarray(np.asarray(scene(((4, 4, 40, 34), (255, 0, 0))))).save(folder / "red.png")
    return folder


def test_runs_are_mined_reported_on_and_exported_and_only_label_stores_need_the_extra(
    tmp_path: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    list_painted(monkeypatch)
    run, model = str(tmp_path / "run"), str(painted_model(tmp_path / "model"))
    mining = {"images": str(photos), "labels": "none", "model": model, "out": run, "device": "cpu", "workers": 1}
    labelling = {"store": "labels", "runs": "runs", "model": model, "corpus": {"images": str(photos)}}
    commands = [
        ["status", run],
        ["report", run],
        ["export", run, "--format", "coco", "--out", str(tmp_path / "coco"), "--val-share", "0"],
        ["status", str(tmp_path)],
        ["status", "s3://bucket/labels"],
    ]
    process = subprocess.run(
        [sys.executable, "-c", WITHOUT_DELTALAKE, json.dumps([mining, labelling, commands])],
        capture_output=True, text=True, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, timeout=300,
    )  # fmt: skip
    assert process.returncode == 0, process.stderr
    assert json.loads(process.stdout.splitlines()[-1]) == [0, 0, 0, 0, 2], process.stderr
    message = 'Label stores need the package deltalake. Install it with: pip install "boxmine[store]"'
    assert process.stderr.count(message) == 2, process.stderr
    assert (tmp_path / "coco" / "annotations" / "instances.json").is_file()


def test_the_recipe_of_a_labelling_job_can_be_read(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['deltalake'] = None\n"
        "from mining.label_store.settings import LabelSettings\n"
        "LabelSettings(store='labels', runs='runs', corpus={'images': 'photos'}, model='model')"
    )
    result: Any = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=120)
    assert result.returncode == 0, result.stderr
