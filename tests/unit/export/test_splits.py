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


# --- groups of copies and near-duplicates ----------------------------------------------------------------------------


def grouped_parts(count, copies, *, val_share=0.1, seed=0, splits=()):
    rows = images(*splits, count=count)
    split = find_split(rows, val_share=val_share, seed=seed, copies=copies)
    return split, [split.part_of(row) for row in rows]


@pytest.mark.parametrize("seed", range(20))
def test_a_group_that_is_larger_than_the_validation_set_is_train(seed):
    copies = {f"{number}.jpg": "0.jpg" for number in range(60)}
    split, found = grouped_parts(100, copies, seed=seed)
    assert set(found[:60]) == {"train"}
    assert 1 <= found.count("val") <= 20
    assert "1, the largest with 60 images." in split.notes[0]


@pytest.mark.parametrize("seed", range(20))
def test_one_large_group_and_one_other_image_still_give_a_validation_image(seed):
    copies = {f"{number}.jpg": "0.jpg" for number in range(9)}
    assert grouped_parts(10, copies, seed=seed)[1] == ["train"] * 9 + ["val"]


@pytest.mark.parametrize("seed", range(20))
def test_groups_alone_are_split_if_all_are_larger_than_the_share(seed):
    copies = {f"{number}.jpg": f"{number // 3 * 3}.jpg" for number in range(12)}
    _, found = grouped_parts(12, copies, val_share=0.05, seed=seed)
    assert set(found) == {"train", "val"}
    assert all(len(set(found[first : first + 3])) == 1 for first in range(0, 12, 3))


def test_the_share_of_groups_in_val_is_close_to_the_requested_share():
    copies = {f"{number}.jpg": f"{number // 4 * 4}.jpg" for number in range(2000)}
    assert 300 < grouped_parts(2000, copies, val_share=0.2)[1].count("val") < 500
