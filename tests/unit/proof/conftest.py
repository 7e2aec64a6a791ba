"""A run of painted images, whose boxes are partly wrong, and their true boxes."""

import json
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mining.corpus.schema import CORPUS_SCHEMA
from mining.corpus.shards import corpus_writer, write_shard, write_summary
from mining.corpus.summary import CorpusSummary
from mining.runs.run import Run
from tests.unit.export.conftest import CLASSES, Painted, write_run

DOG, CAT = 1, 3
NAMES = {entry["id"]: str(entry["name"]) for entry in CLASSES}
RIGHT, SHIFTED, FAR = (0, 0), (9, 0), (30, 0)  # how far a mined box lies from the true one, in px
TRUE_BOX = (5.0, 5.0, 20.0, 20.0)  # xywh


def mined_images(count: int = 8) -> list[Painted]:
    """Images of one object, in turn a dog and a cat; every fourth box is shifted, every eighth one is elsewhere."""
    images = []
    for number in range(count):
        category = (DOG, CAT)[number % 2]
        right, down = FAR if number % 8 == 7 else SHIFTED if number % 4 == 3 else RIGHT
        x, y, w, h = TRUE_BOX
        box = (category, x + right, y + down, w, h, 0.9 - number / 100)
        images.append(Painted(f"{number:02}.png", (box,), labels=(NAMES[category],)))
    return images


def write_truth(path: Path, images: list[Painted]) -> Path:
    """One box per image, at TRUE_BOX."""
    document = {
        "images": [
            {"id": n, "file_name": one.file_name, "width": one.width, "height": one.height}
            for n, one in enumerate(images)
        ],
        "categories": CLASSES,
        "annotations": [
            {"id": n, "image_id": n, "category_id": one.boxes[0][0], "bbox": list(TRUE_BOX)}
            for n, one in enumerate(images)
        ],
    }
    path.write_text(json.dumps(document))
    return path


@dataclass(frozen=True)
class Corpus:
    """A finished run, its images, and their true boxes."""

    run: Path
    images: Path
    truth: Path

    def open(self) -> Run:
        return Run.open(self.run, finished=True)


def complete(run: Path) -> None:
    """Add what a painted run lacks for verdicts, and remove the sizes of its files, which it invents."""
    corpus = pq.read_table(run / "corpus.parquet")
    rows = [{**row, "bytes": None} for row in corpus.to_pylist()]
    with corpus_writer(run / "corpus.parquet") as writer:
        write_shard(writer, pa.Table.from_pylist(rows, schema=CORPUS_SCHEMA))
        numbers = {name: number for number, name in NAMES.items()}
        write_summary(writer, CorpusSummary("folder", len(rows), 0, 0, 0, {}, numbers, False, []))
    record = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps({**record, "seconds": {"mining": 0, "finishing": 0}}))


def make_corpus(folder: Path, count: int = 8) -> Corpus:
    painted = mined_images(count)
    written = write_run(folder, painted)
    complete(written.folder)
    return Corpus(written.folder, written.images, write_truth(folder / "truth.json", painted))


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    return make_corpus(tmp_path / "train")
