"""The assignment of images to parts."""

import pytest

from mining.export.splits import find_split
from mining.runs.rows import ImageRow


def images(*splits, count=None):
    named = splits or [None] * count
    return [ImageRow(i, f"{i}.jpg", 10, 10, split, False) for i, split in enumerate(named)]


def parts(rows, *, val_share=0.1, seed=0):
    split = find_split(rows, val_share=val_share, seed=seed)
    return [split.part_of(row) for row in rows]


def test_the_split_of_the_corpus_is_kept():
    assert parts(images("train", "val", "train")) == ["train", "val", "train"]


def test_a_listed_test_part_is_kept_if_a_val_part_is_listed():
    assert parts(images("train", "valid", "testing", None)) == ["train", "val", "test", "train"]


def test_a_corpus_of_train_images_only_is_split_by_hash():
    assert set(parts(images(*["train"] * 50))) == {"train", "val"}


def test_the_val_share_is_close_to_the_requested_share():
    assert 150 < parts(images(count=1000), val_share=0.2).count("val") < 250


def test_images_added_later_do_not_move_the_others():
    few, many = parts(images(count=500)), parts(images(count=900))[:500]
    assert sum(a != b for a, b in zip(few, many, strict=True)) <= 2


def test_another_seed_draws_another_val():
    assert parts(images(count=200)) != parts(images(count=200), seed=1)


@pytest.mark.parametrize("val_share", [0.001, 0.5, 0.999])
@pytest.mark.parametrize("count", [2, 3, 5])
def test_neither_part_is_empty_for_few_images(count, val_share):
    assert set(parts(images(count=count), val_share=val_share)) == {"train", "val"}


def test_a_share_of_zero_puts_all_into_train():
    assert set(parts(images(count=20), val_share=0.0)) == {"train"}


def test_a_single_image_is_train():
    assert parts(images(count=1), val_share=0.9) == ["train"]
