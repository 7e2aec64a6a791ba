"""Find the file of each listed image; where few or none are found, suggest what to correct."""

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path, PurePath

from mining.corpus.file_walker import FileWalker
from mining.corpus.image_root import ImageRoot
from mining.corpus.name_matching import NameMatcher
from mining.corpus.names import suffix_of
from mining.corpus.sqlite_index import CorpusIndex
from mining.errors import CorpusError

_MAX_PARENTS = 4
_MAX_SIBLINGS = 20
_MAX_NAMES = 200


def locate_images(
    index: CorpusIndex, root: ImageRoot, labels: Path, split: str | None, min_present: float = 0.0
) -> list[str]:
    """Walk through the image folder, and give every listed image the name of its file.

    Args:
        index: The listed images; the files found are added to it.
        root: The folder of the images.
        labels: The label file or folder, for messages.
        split: The split that will be used; None uses all.
        min_present: Smallest share of the listed images that must have a file, in 0-1.

    Returns:
        Notes on names that were matched only in part, and on files that were skipped.

    Raises:
        CorpusError: No listed image of the split has a file, or a share below `min_present`.
    """
    walker = FileWalker(root.real)
    index.add_disk(walker)
    notes = NameMatcher(index, labels.name, labels.name, PurePath(root.real), root.find).run()
    if not index.any_present(split):
        first = index.first_listed(split)
        advice = suggest_folder(index, root, split) or _suggest_correction(first, index)
        raise CorpusError(
            " ".join(
                [
                    f"None of the images listed in {labels} exists below {root.given}, first {first!r}.",
                    *([advice] if advice else [*notes, *walker.notes()]),
                ]
            )
        )
    check_enough_present(index, root, labels, split, min_present)
    return [*notes, *walker.notes()]


def check_enough_present(
    index: CorpusIndex, root: ImageRoot, labels: Path, split: str | None, min_present: float
) -> None:
    """Check that a large enough share of the listed images has a file.

    Raises:
        CorpusError: The share is below `min_present`.
    """
    listed, present = index.listed_and_present(split)
    if present >= min_present * listed:
        return
    of_split = "" if split is None else f" for split {split!r}"
    raise CorpusError(
        " ".join(
            [
                f"Only {present} of the {listed} images listed in {labels}{of_split} exist below {root.given}; "
                f"{listed - present} are missing.",
                suggest_folder(index, root, split)
                or "Give --images the folder that the names in the label file are relative to.",
                "To use only the images that exist, give --min-present 0.",
            ]
        )
    )


def suggest_folder(index: CorpusIndex, root: ImageRoot, split: str | None) -> str:
    """Name the folder that most of the listed images are relative to.

    Only a sample of the names is looked up where there are many.

    Returns:
        A sentence; empty where no folder has more of them than the image root itself.
    """
    names = index.sample_listed(split, _MAX_NAMES)
    counts = _count_around(names, root) + _count_below(names, index, root)
    if not counts:
        return ""
    # of folders with equally many images the nearest
    folder, count = min(counts.items(), key=lambda item: (-item[1], len(item[0].parts), item[0]))
    if count <= index.count_on_disk(names):
        return ""
    total = f"the {len(names)} names that were looked up" if len(names) == _MAX_NAMES else f"{len(names)}"
    if 2 * count < len(names):
        return (
            f"They lie in several folders, {count} of {total} below {folder}. Give --images a folder above all of "
            "them, and write the names in the label file relative to it."
        )
    if count == len(names):
        return f"{'It is' if count == 1 else 'All of them are'} below {folder}: give --images {folder}."
    return f"Most of them, {count} of {total}, are below {folder}: give --images {folder}."


def _count_around(names: Iterable[str], root: ImageRoot) -> Counter[Path]:
    """How many of the names exist in each folder above the root, and in each folder beside it."""
    real = root.given.resolve()
    folders = [*real.parents][:_MAX_PARENTS]
    with suppress(OSError):  # the folder above may not be readable
        siblings = (path for path in real.parent.iterdir() if path.is_dir() and path != real)
        folders += sorted(siblings)[:_MAX_SIBLINGS]
    return Counter(folder for name in names for folder in folders if (folder / name).is_file())


def _count_below(names: Iterable[str], index: CorpusIndex, root: ImageRoot) -> Counter[Path]:
    """How many of the names exist in each folder below the root, ignoring letter case."""
    wanted = {name.lower() for name in names}
    depths = sorted({name.count("/") + 1 for name in wanted})

    def folders() -> Iterator[str]:
        for path in index.disk():
            parts = path.split("/")
            for depth in depths:
                if len(parts) > depth and "/".join(parts[-depth:]).lower() in wanted:
                    yield "/".join(parts[:-depth])

    return Counter({root.given / folder: count for folder, count in Counter(folders()).items()})


def _suggest_correction(name: str, index: CorpusIndex) -> str:
    """How the first listed name differs from that of a file; empty where no file has a similar name."""
    last = name.rpartition("/")[2]
    stem = name.removesuffix(name[-len(suffix_of(name)) :]) if suffix_of(name) else name
    if near := index.find_by_stem(stem):
        return (
            f"There is {near!r}: the names differ in the suffix or in letter case. Correct the names in the label file."
        )
    if last != name and (index.holds(last) or index.find_by_end(last)):
        return f"There is a {last!r} in another folder. Correct the folders in the label file."
    return ""
