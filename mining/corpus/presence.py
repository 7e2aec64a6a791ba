"""Which listed images lie on the disk, under which name; and what to advise when none does."""

from pathlib import Path, PurePath

from mining.corpus.matching import Matching
from mining.corpus.names import suffix_of
from mining.corpus.spill import Spill
from mining.corpus.walk import ImageRoot, Walk
from mining.errors import CorpusError

_PARENTS_TRIED = 4


def match(table: Spill, root: ImageRoot, labels: Path, split: str | None) -> list[str]:
    """Give every listed image the name its file has on the disk; gives the notes on what was left out.

    Raises CorpusError where no listed image of the split (None = of any) has a file.
    """
    walk = Walk(root.real)
    table.add_disk(walk)
    matched = Matching(table, labels.name, labels.name, PurePath(root.real), root.find).run()
    if not table.any_present(split):
        first = table.first_listed(split)
        advice = _advice(first, table, root)
        raise CorpusError(
            " ".join(
                [
                    f"None of the images that {labels} names is below {root.given}, first {first!r}.",
                    *([advice] if advice else [*matched, *walk.notes()]),
                ]
            )
        )
    return [*matched, *walk.notes()]


def _advice(name: str, table: Spill, root: ImageRoot) -> str:
    for parent in [*root.given.resolve().parents][:_PARENTS_TRIED]:
        if (parent / name).is_file():
            return f"It is below {parent}: give --images {parent}."
    deeper = table.like_suffix(name)
    if deeper:
        folder = root.given / deeper[: -len(name) - 1]
        return f"It is below {folder}: give --images {folder}."
    base = name.rpartition("/")[2]
    stem = name.removesuffix(name[-len(suffix_of(name)) :]) if suffix_of(name) else name
    if near := table.like_stem(stem):
        return f"There is {near!r}: the names differ in the ending or in upper and lower case; mend the label file."
    if base != name and (table.holds(base) or table.like_suffix(base)):
        return f"There is a {base!r} in another folder: mend the folders in the label file."
    return ""
