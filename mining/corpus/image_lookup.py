"""Which listed images lie on the disk, under which name; and what to advise when none does."""

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


def locate_images(
    table: CorpusIndex, root: ImageRoot, labels: Path, split: str | None, min_present: float = 0.0
) -> list[str]:
    """Give every listed image the name its file has on the disk; gives the notes on what was left out.

    Raises CorpusError where no listed image of the split (None = of any) has a file, or a share below `min_present`.
    """
    walk = FileWalker(root.real)
    table.add_disk(walk)
    matched = NameMatcher(table, labels.name, labels.name, PurePath(root.real), root.find).run()
    if not table.any_present(split):
        first = table.first_listed(split)
        advice = suggest_folder(table, root, split) or _advice(first, table, root)
        raise CorpusError(
            " ".join(
                [
                    f"None of the images that {labels} names is below {root.given}, first {first!r}.",
                    *([advice] if advice else [*matched, *walk.notes()]),
                ]
            )
        )
    check_enough_present(table, root, labels, split, min_present)
    return [*matched, *walk.notes()]


def _advice(name: str, table: CorpusIndex, root: ImageRoot) -> str:
    base = name.rpartition("/")[2]
    stem = name.removesuffix(name[-len(suffix_of(name)) :]) if suffix_of(name) else name
    if near := table.like_stem(stem):
        return f"There is {near!r}: the names differ in the ending or in upper and lower case; mend the label file."
    if base != name and (table.holds(base) or table.like_suffix(base)):
        return f"There is a {base!r} in another folder: mend the folders in the label file."
    return ""


_PARENTS_TRIED = 4


_NAMES_TRIED = 200


_FOLDERS_BESIDE_TRIED = 20


def check_enough_present(
    table: CorpusIndex, root: ImageRoot, labels: Path, split: str | None, min_present: float
) -> None:
    """Raise CorpusError where a share below `min_present` of the listed images (of the split) has a file."""
    listed, present = table.listed_and_present(split)
    if present >= min_present * listed:
        return
    of_split = "" if split is None else f" for split {split!r}"
    raise CorpusError(
        " ".join(
            [
                f"Only {present} of the {listed} images that {labels} names{of_split} are below {root.given}; "
                f"{listed - present} are missing.",
                suggest_folder(table, root, split) or "Give the folder that their names in the label file count from.",
                "To use only those that are there, give --min-present 0.",
            ]
        )
    )


def suggest_folder(table: CorpusIndex, root: ImageRoot, split: str | None) -> str:
    """The sentence that names the folder below which most listed images are; '' where no folder has more than --images.

    Only some of the names are looked up where there are many.
    """
    names = table.some_listed(split, _NAMES_TRIED)
    found = _counts_around(names, root) + _counts_below(names, table, root)
    if not found:
        return ""
    # of equal folders the nearest
    folder, count = min(found.items(), key=lambda item: (-item[1], len(item[0].parts), item[0]))
    if count <= table.count_on_disk(names):
        return ""
    total = f"the {len(names)} names tried" if len(names) == _NAMES_TRIED else f"{len(names)}"
    if 2 * count < len(names):
        return (
            f"They lie in several folders, {count} of {total} below {folder}: give a folder above all of them, and "
            "names that count from there."
        )
    if count == len(names):
        return f"{'It is' if count == 1 else 'All are'} below {folder}: give --images {folder}."
    return f"Most, {count} of {total}, are below {folder}: give --images {folder}."


def _counts_around(names: Iterable[str], root: ImageRoot) -> Counter[Path]:
    """How many of the names the folders above the root have, and those beside it."""
    real = root.given.resolve()
    folders = [*real.parents][:_PARENTS_TRIED]
    with suppress(OSError):  # the folder above may be closed to us
        folders += sorted(one for one in real.parent.iterdir() if one.is_dir() and one != real)[:_FOLDERS_BESIDE_TRIED]
    return Counter(folder for name in names for folder in folders if (folder / name).is_file())


def _counts_below(names: Iterable[str], table: CorpusIndex, root: ImageRoot) -> Counter[Path]:
    """How many of the names each folder below the root has, letter case aside."""
    wanted = {name.lower() for name in names}
    depths = sorted({name.count("/") + 1 for name in wanted})

    def folders() -> Iterator[str]:
        for path in table.disk():
            parts = path.split("/")
            for depth in depths:
                if len(parts) > depth and "/".join(parts[-depth:]).lower() in wanted:
                    yield "/".join(parts[:-depth])

    return Counter({root.given / folder: count for folder, count in Counter(folders()).items()})
