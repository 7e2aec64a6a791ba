import errno
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mining.engine.box_extraction import FACTOR_COLUMNS
from mining.engine.outcome import ImageOutcome
from mining.errors import RunError, StorageError
from mining.runs.schema import ANNOTATION_SCHEMA
from mining.runs.shard_files import (
    PART_SCHEMA,
    ROWS_PER_GROUP,
    TABLES_PER_GROUP,
    merge_parts,
    part_outcomes,
    write_part,
)

STATES = ("no_region", "low_score", "filtered", "quarantined")


def row(image_id: int, number: int = 0, /, **values: Any) -> dict[str, Any]:
    """Return the row of a box; x is its image's id, y its number in the image."""
    return {
        "image_id": image_id, "file_name": f"{image_id}.jpg", "width": 640, "height": 480, "category_id": 3,
        "category": "dog", "x": float(image_id), "y": float(number), "w": 30.5, "h": 40.0, "area": 1220.0, "score": 0.5,
        "class_score": 0.75, "peak": 1.0, "mean_activation": 0.5, "threshold": 0.25, "scales": [1.0, 1.5],
        "localizer": "cam", "model_sha256": "ab" * 32, "merged_from": 1, "source": "label",
        "refinement": "none", "is_part": False, **dict.fromkeys(FACTOR_COLUMNS), **values,
    }  # fmt: skip


def outcome(image_id: int, boxes: int = 1) -> ImageOutcome:
    listed = [row(image_id, number) for number in range(boxes)]
    if boxes:
        return ImageOutcome(image_id, f"{image_id}.jpg", "labelled", 640, 480, None, listed)
    return ImageOutcome(image_id, f"{image_id}.jpg", STATES[image_id % 4], None, None, f"reason {image_id}")


def written_part(path: Path, *outcomes: ImageOutcome) -> Path:
    write_part(path, outcomes)
    return path


def without_boxes(outcomes: list[ImageOutcome]) -> list[tuple[Any, ...]]:
    return [(o.image_id, o.file_name, o.state, o.width, o.height, o.reason) for o in outcomes]


def rows_of(path: Path) -> list[dict[str, Any]]:
    return pq.read_table(path).to_pylist()


def described(schema: pa.Schema) -> list[tuple[Any, ...]]:
    """Return name, type, nullability, unit and meaning of each column."""
    return [(f.name, f.type, f.nullable, f.metadata[b"unit"], f.metadata[b"meaning"]) for f in schema]


def merged(folder: Path, *shards: list[ImageOutcome]) -> Path:
    parts = [written_part(folder / f"part-{number:05d}.parquet", *shard) for number, shard in enumerate(shards)]
    merge_parts(parts, folder / "annotations.parquet")
    return folder / "annotations.parquet"


# --- one part --------------------------------------------------------------------------------------------------------


def test_a_part_holds_one_row_per_box_in_order(tmp_path: Path) -> None:
    part = written_part(tmp_path / "p.parquet", outcome(7, 2), outcome(2, 0), outcome(5, 1))
    assert rows_of(part) == [row(7, 0), row(7, 1), row(5, 0)]


def test_a_part_has_the_annotation_columns_except_the_id(tmp_path: Path) -> None:
    schema = pq.read_schema(written_part(tmp_path / "p.parquet", outcome(1)))
    assert described(schema) == described(ANNOTATION_SCHEMA)[1:]


def test_image_outcomes_survive_a_round_trip_through_a_part(tmp_path: Path) -> None:
    outcomes = [
        ImageOutcome(2**40, 'a "b" ü 猫/c.jpg', "quarantined", None, None, "a.jpg: 'no' \"image\"\n\t\\ at all"),
        outcome(1, 3),
        ImageOutcome(3, "d.jpg", "low_score", 1, 20_000),
    ]
    found = part_outcomes(written_part(tmp_path / "p.parquet", *outcomes))
    assert without_boxes(found) == without_boxes(outcomes)
    assert [one.boxes for one in found] == [[], [], []]


def test_a_part_without_boxes_is_valid(tmp_path: Path) -> None:
    part = written_part(tmp_path / "p.parquet", outcome(1, 0), outcome(2, 0))
    assert rows_of(part) == []
    assert [one.image_id for one in part_outcomes(part)] == [1, 2]


def test_a_part_without_images_is_valid(tmp_path: Path) -> None:
    assert part_outcomes(written_part(tmp_path / "p.parquet")) == []


# --- atomic writes ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wrong", [{"x": "left"}, {"score": None, "width": "wide"}, {"scales": 3}, {"image_id": 2**70}])
def test_a_failed_write_leaves_no_file(tmp_path: Path, wrong: dict[str, Any]) -> None:
    bad = ImageOutcome(1, "1.jpg", "labelled", 640, 480, None, [row(1), row(1, **wrong)])
    with pytest.raises((pa.ArrowException, OverflowError, TypeError)):
        write_part(tmp_path / "p.parquet", [bad])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("before", [True, False])
def test_an_interrupted_write_keeps_the_previous_part(
    tmp_path: Path, before: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    part = tmp_path / "parts" / "p.parquet"
    if before:
        written_part(part, outcome(1, 2))

    def stopped(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(pq.ParquetWriter, "write_table", stopped)
    with pytest.raises(KeyboardInterrupt):
        write_part(part, [outcome(3, 3)])
    assert list(part.parent.iterdir()) == ([part] if before else [])
    assert part_outcomes(part) is None or [one.image_id for one in part_outcomes(part)] == [1]


def test_a_full_disk_is_reported_and_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(pq.ParquetWriter, "write_table", full)
    with pytest.raises(StorageError, match=r"p\.parquet: the disk is full"):
        write_part(tmp_path / "p.parquet", [outcome(1)])
    assert list(tmp_path.iterdir()) == []


# --- invalid parts ---------------------------------------------------------------------------------------------------


def test_a_missing_file_is_not_a_part(tmp_path: Path) -> None:
    assert part_outcomes(tmp_path / "p.parquet") is None
    assert part_outcomes(tmp_path) is None


@pytest.mark.parametrize("kept", [0, 3, 100, -1, -20])
def test_a_truncated_part_is_not_valid(tmp_path: Path, kept: int) -> None:
    part = written_part(tmp_path / "p.parquet", outcome(1, 40), outcome(2, 40))
    part.write_bytes(part.read_bytes()[:kept])
    assert part_outcomes(part) is None


@pytest.mark.parametrize("content", [b"", b"no part at all", bytes(1000), b"PAR1" + bytes(50) + b"PAR1"])
def test_an_unrelated_file_is_not_a_part(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "p.parquet").write_bytes(content)
    assert part_outcomes(tmp_path / "p.parquet") is None


FOREIGN = {
    "no images": None,
    "no JSON": b"{",
    "no text": b"\xff\xfe",
    "a number": b"3",
    "no list": b'{"image_id": 1}',
    "a list of numbers": b"[3]",
    "images of other fields": json.dumps([{"image_id": 1, "colour": "red"}]).encode(),
}


@pytest.mark.parametrize("images", FOREIGN.values(), ids=FOREIGN)
def test_a_table_with_foreign_metadata_is_not_a_part(tmp_path: Path, images: bytes | None) -> None:
    table = pa.Table.from_pylist([row(1)], schema=PART_SCHEMA)
    metadata = None if images is None else {b"boxmine.images": images}
    pq.write_table(table.replace_schema_metadata(metadata), tmp_path / "p.parquet")
    assert part_outcomes(tmp_path / "p.parquet") is None


def test_a_part_with_different_columns_is_not_valid(tmp_path: Path) -> None:
    """Such a part may come from an earlier version of the program."""
    part = written_part(tmp_path / "p.parquet", outcome(1))
    table = pq.read_table(part)
    pq.write_table(table.drop_columns(["merged_from"]), part)
    assert pq.read_schema(part).metadata == table.schema.metadata
    assert part_outcomes(part) is None


# --- merging parts ---------------------------------------------------------------------------------------------------


def test_boxes_are_merged_in_shard_order_and_numbered_from_one(tmp_path: Path) -> None:
    found = rows_of(merged(tmp_path, [outcome(9, 2), outcome(4, 0)], [outcome(1, 1)], [outcome(6, 3)]))
    assert [one.pop("annotation_id") for one in found] == [1, 2, 3, 4, 5, 6]
    assert found == [row(9, 0), row(9, 1), row(1, 0), row(6, 0), row(6, 1), row(6, 2)]


def test_parts_are_merged_in_the_given_order_not_by_name(tmp_path: Path) -> None:
    first, second = written_part(tmp_path / "b.parquet", outcome(1)), written_part(tmp_path / "a.parquet", outcome(2))
    assert merge_parts([first, second], tmp_path / "out.parquet") == 2
    assert [one["image_id"] for one in rows_of(tmp_path / "out.parquet")] == [1, 2]


def test_the_merged_table_has_the_annotation_schema_with_units(tmp_path: Path) -> None:
    schema = pq.read_schema(merged(tmp_path, [outcome(1)], [outcome(2)]))
    assert described(schema) == described(ANNOTATION_SCHEMA)
    assert schema.metadata is None


def test_small_parts_share_a_row_group(tmp_path: Path) -> None:
    many = ROWS_PER_GROUP - 4
    out = merged(tmp_path, [outcome(1, 3)], [outcome(2, 0)], [], [outcome(3, many)], [outcome(4, 2)], [outcome(5, 7)])
    assert rows_per_group(out) == [many + 5, 7]


def test_the_number_of_parts_per_row_group_is_limited(tmp_path: Path) -> None:
    part = written_part(tmp_path / "part.parquet", outcome(1))
    merge_parts([part] * (TABLES_PER_GROUP + 1), tmp_path / "out.parquet")
    assert rows_per_group(tmp_path / "out.parquet") == [TABLES_PER_GROUP, 1]


def rows_per_group(path: Path) -> list[int]:
    metadata = pq.read_metadata(path)
    return [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)]


@pytest.mark.parametrize("shards", [[], [[]], [[outcome(1, 0)], [outcome(2, 0)]]])
def test_merging_without_boxes_gives_an_empty_table(tmp_path: Path, shards: list[list[ImageOutcome]]) -> None:
    out = merged(tmp_path, *shards)
    assert pq.read_table(out).num_rows == 0
    assert pq.read_schema(out).equals(ANNOTATION_SCHEMA)


shard_lists = st.lists(st.lists(st.integers(0, 4), max_size=5), max_size=6)
"""Number of boxes per image, per shard."""


@given(counts=shard_lists)
@settings(max_examples=40, deadline=None)
def test_merging_neither_loses_nor_duplicates_boxes_or_images(
    counts: list[list[int]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("merge")
    ids = iter(range(1, 1000))
    shards = [[outcome(next(ids), boxes) for boxes in shard] for shard in counts]
    parts = [written_part(folder / f"{number}.parquet", *shard) for number, shard in enumerate(shards)]
    count = merge_parts(parts, folder / "out.parquet")
    found = rows_of(folder / "out.parquet")
    expected = [box for shard in shards for one in shard for box in one.boxes]
    assert count == len(found) == sum(map(sum, counts))
    assert [one.pop("annotation_id") for one in found] == list(range(1, count + 1))
    assert found == expected
    assert [without_boxes(part_outcomes(part)) for part in parts] == [without_boxes(shard) for shard in shards]


def test_merging_memory_does_not_grow_with_the_number_of_parts(tmp_path: Path) -> None:
    boxes, parts = 4000, []
    for number in range(12):
        table = pa.Table.from_pylist([row(number * boxes + i, category=f"c{i}") for i in range(boxes)], PART_SCHEMA)
        parts.append(tmp_path / f"{number}.parquet")
        pq.write_table(table.replace_schema_metadata({b"boxmine.images": b"[]"}), parts[-1])
    one_part = pq.read_table(parts[0]).nbytes
    pool = pa.proxy_memory_pool(pa.default_memory_pool())
    before = pa.default_memory_pool()
    pa.set_memory_pool(pool)
    try:
        merge_parts(parts, tmp_path / "out.parquet")
    finally:
        pa.set_memory_pool(before)
    assert one_part < pool.max_memory() < 6 * one_part, "one part, its new columns, and the writer's pages"


def test_a_part_damaged_in_the_middle_stops_the_merge_with_an_error_naming_it(tmp_path: Path) -> None:
    parts = [written_part(tmp_path / f"{number}.parquet", outcome(number, 50)) for number in (1, 2)]
    content = bytearray(parts[1].read_bytes())
    content[4:400] = bytes(396)
    parts[1].write_bytes(content)
    assert part_outcomes(parts[1]) is None
    with pytest.raises(RunError, match=r"2\.parquet is damaged\. Run the same command again"):
        merge_parts(parts, tmp_path / "out.parquet")
    assert not (tmp_path / "out.parquet").exists()


def test_a_flipped_bit_never_changes_the_merged_boxes(tmp_path: Path) -> None:
    shard = ImageOutcome(1, "1.jpg", "labelled", 640, 480, None, [row(1, i, score=1 / (i + 2)) for i in range(50)])
    part = written_part(tmp_path / "p.parquet", shard)
    sound = part.read_bytes()
    footer = len(sound) - 8 - int.from_bytes(sound[-8:-4], "little")
    merge_parts([part], tmp_path / "sound.parquet")
    noticed = 0
    for place in range(4, footer, 17):
        part.write_bytes(sound[:place] + bytes([sound[place] ^ 4]) + sound[place + 1 :])
        try:
            merge_parts([part], tmp_path / "out.parquet")
        except RunError:
            noticed += 1
        else:
            assert rows_of(tmp_path / "out.parquet") == rows_of(tmp_path / "sound.parquet")
    assert noticed > footer / 17 / 3
