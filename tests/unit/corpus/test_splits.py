"""Names of splits, in one table for reading and writing."""

import pytest

from mining.corpus.splits import canonical_split


@pytest.mark.parametrize("name", ["train", "Train", "TRAINING", " training ", "train2017", "train_set", "trainval"])
def test_names_of_the_training_split(name):
    assert canonical_split(name) == "train"


@pytest.mark.parametrize("name", ["val", "valid", "Validation", "dev", "val2017", "validation-set", "val_images"])
def test_names_of_the_validation_split(name):
    assert canonical_split(name) == "val"


@pytest.mark.parametrize("name", ["test", "TESTING", "eval", "evaluation", "test 2012"])
def test_names_of_the_test_split(name):
    assert canonical_split(name) == "test"


@pytest.mark.parametrize("name", [None, "", "cat", "trainer", "test tube", "train station", "2017", "images", "set"])
def test_other_names_are_not_splits(name):
    assert canonical_split(name) is None
