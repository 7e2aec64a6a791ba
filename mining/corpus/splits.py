"""Names of splits, as datasets write them: one table for folders, listings and exports."""

import re
from collections.abc import Iterable

TRAIN, VAL, TEST = "train", "val", "test"
# grouped as the Hugging Face Hub does
SPLIT_NAMES = {
    "train": TRAIN, "training": TRAIN, "trainval": TRAIN,
    "val": VAL, "valid": VAL, "validation": VAL, "validate": VAL, "dev": VAL, "devel": VAL, "development": VAL,
    "test": TEST, "testing": TEST, "eval": TEST, "evaluation": TEST, "holdout": TEST,
}  # fmt: skip
_DECORATION = re.compile(r"[-_ .]*(sets?|splits?|data|dataset|images?|imgs?|\d{2,4})?$")


def canonical_split(name: str | None) -> str | None:
    """Map a split's name to 'train', 'val' or 'test'; None if it is not the name of a split.

    Letter case does not matter, and a year or a word such as 'set' may follow.

    Example:
        >>> [canonical_split(name) for name in ("Train", "val2017", "test_set", "cats")]
        ['train', 'val', 'test', None]
    """
    plain = (name or "").strip().casefold()
    if plain in SPLIT_NAMES:
        return SPLIT_NAMES[plain]
    return SPLIT_NAMES.get(_DECORATION.sub("", plain, count=1))


def match_split(asked: str, known: Iterable[str]) -> str | None:
    """Find a split by its name, or else the only one with the same canonical name; None if there is none.

    Args:
        asked: The name that the user gave.
        known: The names in the listing.
    """
    names = list(known)
    if asked in names:
        return asked
    canonical = canonical_split(asked)
    same = [name for name in names if canonical is not None and canonical_split(name) == canonical]
    return same[0] if len(same) == 1 else None
