"""The names that datasets give to their splits: one list, for reading folders and listings and for writing exports."""

import re
from collections.abc import Iterable

TRAIN, VAL, TEST = "train", "val", "test"
# as the Hugging Face hub groups them
SPLIT_NAMES = {
    "train": TRAIN, "training": TRAIN, "trainval": TRAIN,
    "val": VAL, "valid": VAL, "validation": VAL, "validate": VAL, "dev": VAL, "devel": VAL, "development": VAL,
    "test": TEST, "testing": TEST, "eval": TEST, "evaluation": TEST, "holdout": TEST,
}  # fmt: skip
_DECORATION = re.compile(r"[-_ .]*(sets?|splits?|data|dataset|images?|imgs?|\d{2,4})?$")


def canonical_split(name: str | None) -> str | None:
    """The part that a split's name stands for: 'train', 'val' or 'test'; None where it is no name of a split.

    Letter case does not matter, and a year or a word such as 'set' may follow: 'Train', 'val2017', 'test_set'.
    """
    plain = (name or "").strip().casefold()
    if plain in SPLIT_NAMES:
        return SPLIT_NAMES[plain]
    return SPLIT_NAMES.get(_DECORATION.sub("", plain, count=1))


def match_split(asked: str, known: Iterable[str]) -> str | None:
    """The known split that is asked for: of this name, or else the only one that stands for the same part."""
    names = list(known)
    if asked in names:
        return asked
    part = canonical_split(asked)
    same = [name for name in names if part is not None and canonical_split(name) == part]
    return same[0] if len(same) == 1 else None
