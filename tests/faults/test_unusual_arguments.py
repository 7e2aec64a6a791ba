"""Commands with unusual arguments: exit code 2 and one sentence; no traceback, no hang, no password, nothing written."""

import json
import os
from pathlib import Path

import pytest

from flows.cli.application import run_command
from tests.factories import write_example

LONG = "x" * 300
STORE = "s3://KEY:hunter2@bucket/labels"
UNDECODABLE = os.fsdecode(b"caf\xe9")
COMMANDS = [
    "mine --images photos --model model --out /proc/x/y",
    "train --images photos --labels labels.csv --out /proc/x/y",
    "export run --format yolo --out /proc/x/y",
    "compare run run --out /proc/x/y.html",
    "demo --out /proc/x",
    f"mine --images photos --model model --out {UNDECODABLE}/run",
    f"mine --images {UNDECODABLE} --model model --out new",
    f"status {UNDECODABLE}",
    f"export run --format coco --out {UNDECODABLE}/x",
    f"report {UNDECODABLE}",
    f"status {STORE}",
    f"export {STORE} --format coco --out new",
    f"label label.yaml --set store={STORE}",
    "mine --images https://me:hunter2@host/x --model model --out new",
    "mine --images photos --model model --out new --ray-address ray://me:hunter2@host:1",
    f"status {LONG}",
    f"report {LONG}",
    f"export {LONG} --format coco --out new",
    f"export run --format coco --out {LONG}",
    f"score {LONG} --truth a",
    f"score run --truth {LONG}",
    f"compare {LONG} b",
    f"run {LONG}",
    "status /dev/null",
    "status labels.csv",
    "run /dev/zero",
    "run .",
    "label /dev/null",
    "score run --truth /dev/zero",
    "report run --truth /dev/zero",
    "compare run run --truth /dev/zero",
    "mine --images /dev/null --model model --out new",
    "mine --images photos --model /dev/null --out new",
    "mine --images photos --labels /dev/stdin --model model --out new",
    "mine --images photos --labels photos/a.jpg --model model --out new",
    "mine --images photos --model pretrained: --out new",
    "mine --images photos --model pretrained:../../x --out new",
    "mine --images photos --model model --out new --split x",
    "mine --images photos --model model --out new --scales ,",
    "mine --images photos --model model --out new --scales a,b",
    "mine --images photos --model model --out new --workers 100000",
    "mine --images photos --model model --out new --min-area 0.5 --max-area 0.1",
    "mine --images photos --model model --out new --device meta",
    "mine --images photos --model model --out new --thresholds-from nowhere",
    "train --images photos --labels labels.csv --out new --seed 4294967296",
    "train --images photos --labels labels.csv --out new --seed -1",
    "train --images photos --labels labels.csv --out new --options.dropout 7",
    "export run --format coco --out new --min-score nan",
    "export run --format coco --out new --val-share 9",
    "export run --format run --out new",
    "clean label.yaml --keep -1",
    "clean run.yaml",
    "demo --images 0 --out new",
    "demo --images 99999999999 --out new",
    "demo --seed -1 --out new",
    "run run.yaml --set corpus.images",
    "run run.yaml --set =3",
    "run run.yaml --set out=null",
    "run run.yaml --set .=1",
    "run run.yaml --set mine.scales=[]",
    "experiment run.yaml",
    "mine",
    "--nothing",
    "nothing",
]


pytestmark = pytest.mark.timeout(80)  # no command may wait for something


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_example(tmp_path_factory.mktemp("place"))
    corpus = {"images": "photos", "labels": "labels.csv"}
    (folder / "run.yaml").write_text(json.dumps({"out": "new", "corpus": corpus, "model": "model"}))
    label = {"store": "store", "runs": "runs", "corpus": corpus, "model": "model"}
    (folder / "label.yaml").write_text(json.dumps(label))
    os.makedirs(folder / UNDECODABLE)
    words = f"mine --images {folder}/photos --model {folder}/model --out {folder}/run --device cpu --scales 1"
    assert run_command(words.split()) == 0
    return folder


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: ascii(command)[:70])
def test_an_unusual_argument_is_refused_in_a_sentence(
    command: str, place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(place)
    before = sorted(os.listdir(place))
    assert run_command(command.split()) == 2
    stdout, stderr = capsys.readouterr()
    (sentence,) = [line for line in stderr.splitlines() if line.startswith("boxmine: ")]
    assert len(sentence) < 1000
    assert "hunter2" not in stdout + stderr
    assert sorted(os.listdir(place)) == before


def test_a_working_directory_that_is_not_utf8_is_refused(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(place / UNDECODABLE)
    words = f"mine --images {place}/photos --model {place}/model --out new --device cpu --scales 1"
    assert run_command(words.split()) == 2
    assert "is not valid UTF-8" in capsys.readouterr().err
