"""Which listed images lie on the disk, under which name; and what to advise when none does."""

from pathlib import Path, PurePath

from mining.corpus.file_walker import FileWalker, ImageRoot
from mining.corpus.image_folder import advise_folder, refuse_few_present
from mining.corpus.matching import Matching
from mining.corpus.names import suffix_of
from mining.corpus.sqlite_index import CorpusIndex
from mining.errors import CorpusError


def match(table: CorpusIndex, root: ImageRoot, labels: Path, split: str | None, min_present: float = 0.0) -> list[str]:
    """Give every listed image the name its file has on the disk; gives the notes on what was left out.

    Raises CorpusError where no listed image of the split (None = of any) has a file, or a share below `min_present`.
    """
    walk = FileWalker(root.real)
    table.add_disk(walk)
    matched = Matching(table, labels.name, labels.name, PurePath(root.real), root.find).run()
    if not table.any_present(split):
        first = table.first_listed(split)
        advice = advise_folder(table, root, split) or _advice(first, table, root)
        raise CorpusError(
            " ".join(
                [
                    f"None of the images that {labels} names is below {root.given}, first {first!r}.",
                    *([advice] if advice else [*matched, *walk.notes()]),
                ]
            )
        )
    refuse_few_present(table, root, labels, split, min_present)
    return [*matched, *walk.notes()]


def _advice(name: str, table: CorpusIndex, root: ImageRoot) -> str:
    base = name.rpartition("/")[2]
    stem = name.removesuffix(name[-len(suffix_of(name)) :]) if suffix_of(name) else name
    if near := table.like_stem(stem):
        return f"There is {near!r}: the names differ in the ending or in upper and lower case; mend the label file."
    if base != name and (table.holds(base) or table.like_suffix(base)):
        return f"There is a {base!r} in another folder: mend the folders in the label file."
    return ""
