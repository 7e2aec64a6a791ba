"""Match names of images and classes in a listing with those of files and models."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePath

import numpy as np

from mining.arrays import Ints


@dataclass(frozen=True)
class MatchedImages:
    """Images of a ground truth matched with file names.

    Attributes:
        position: (N,) int, position of each image among the known file names; -1 where there is none.
        notes: Sentences on ambiguous names.
    """

    position: Ints
    notes: tuple[str, ...]


def match_files(wanted: Sequence[str], known: Sequence[str]) -> Ints:
    """Return for each wanted file name its position in `known`, -1 where there is none."""
    return match_listed(wanted, (None,) * len(wanted), known, "", None).position


def match_listed(
    wanted: Sequence[str], own_names: Sequence[str | None], known: Sequence[str], file: str, root: PurePath | None
) -> MatchedImages:
    """Match the names of a listing with file names.

    Args:
        wanted: Listed names.
        own_names: For each another name that it may have.
        known: File names below the root.
        file: Name of the listing.
        root: Folder of the files, where it is known.
    """
    from mining.corpus.listing import ListedImage
    from mining.corpus.name_matching import NameMatcher  # takes long to import
    from mining.corpus.sqlite_index import open_index_in_memory

    position = {name: place for place, name in enumerate(known)}
    with open_index_in_memory() as table:
        table.add_listed(
            ListedImage(name, None, own_name=own_name) for name, own_name in zip(wanted, own_names, strict=True)
        )
        table.add_disk(known)
        notes = NameMatcher(table, file, file, root).run()
        positions = [position[name] if is_present else -1 for _, name, is_present in table.names_by_row()]
    return MatchedImages(np.array(positions, np.int64), tuple(notes))


def match_classes(wanted: Sequence[str], known: Sequence[str]) -> Ints:
    """Return for each wanted class name its position in `known`, -1 where there is none."""
    from mining.corpus.names import normalise_class_name  # takes long to import

    position = {normalise_class_name(name): place for place, name in enumerate(known)}
    return np.array([position.get(normalise_class_name(name), -1) for name in wanted], np.int64)


def match_names(wanted: Sequence[str], known: Sequence[str]) -> Ints:
    """Return for each wanted name its position in `known`, -1 where there is none; both are from the same source."""
    position = {name: i for i, name in enumerate(known)}
    return np.array([position.get(name, -1) for name in wanted], np.int64)
