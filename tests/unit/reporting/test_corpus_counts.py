"""What the corpus table says of a run's images."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from mining.corpus.schema import CORPUS_SCHEMA
from mining.reporting.corpus_counts import count_images


def write_corpus(path: Path, images: list[tuple[str, list[str] | None]]) -> Path:
    """images: (state, labels) of the images 1, 2, ..., each named after its number."""
    rows = [
        {"image_id": number, "file_name": f"{number}.jpg", "state": state, "labels": labels}
        for number, (state, labels) in enumerate(images, start=1)
    ]
    pq.write_table(pa.Table.from_pylist(rows, CORPUS_SCHEMA), path, row_group_size=3)
    return path


def test_classes_are_counted_by_listing(tmp_path: Path) -> None:
    images = [
        ("labelled", ["cat", "dog"]),
        ("no_region", ["cat"]),
        ("labelled", None),
        ("quarantined", []),
        ("labelled", ["cat"]),
    ]
    found = count_images(write_corpus(tmp_path / "c.parquet", images), {(1, "dog"), (2, "dog"), (5, "cat")}, most=2)
    assert dict(found.listed) == {"cat": 3, "dog": 1}
    assert dict(found.listed_by_people) == {"dog": 1, "cat": 1}, "of image 2, people made a box of a class not listed"
    assert [(one.file_name, one.labels) for one in found.unboxed["no_region"]] == [("2.jpg", ("cat",))]
    assert list(found.unboxed) == ["no_region"], "neither images with a box nor quarantined ones"


def test_few_images_of_each_state_are_kept_and_always_the_same(tmp_path: Path) -> None:
    images = [("low_score" if number % 2 else "filtered", None) for number in range(50)]
    path = write_corpus(tmp_path / "c.parquet", images)
    found = count_images(path, set(), most=4).unboxed
    assert {state: len(some) for state, some in found.items()} == {"low_score": 4, "filtered": 4}
    assert len({one.file_name for some in found.values() for one in some}) == 8
    assert count_images(path, set(), most=4).unboxed == found
    assert count_images(path, set(), most=2).unboxed == {state: some[:2] for state, some in found.items()}
    assert [one.file_name for one in found["filtered"]] != ["1.jpg", "3.jpg", "5.jpg", "7.jpg"], "not the first ones"
