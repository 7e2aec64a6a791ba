"""Match listed names with image files, in the same way for labels and ground truth.

A listed name means the file of the same name (see `mining.corpus.names`). Where there is none, it means the only file
whose path ends in the name, or the only file that the name's path ends in, provided that no other file and no other
listed name could be meant. A folder named after a split takes part in this only if it is known to be the same split.
Notes count the names that were matched in part, and those that were not matched although they look similar.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import PurePath

from mining.corpus.names import file_key, normalise_name, path_tails, suffix_of
from mining.corpus.splits import canonical_split
from mining.corpus.sqlite_index import CorpusIndex

_BY_END, _BY_SUFFIX, _BY_OWN = "by end", "by suffix", "by own"
_AMBIGUOUS, _OTHER_CASE, _OTHER_FOLDER = "ambiguous", "other case", "other folder"
_SENTENCES = {
    _BY_END: "{count} of {listing} {are} matched by the end of the path only, first {name!r} with {file!r}.",
    _BY_SUFFIX: (
        "{count} of {listing} {are} matched although the suffix differs in letter case, first {name!r} with {file!r}."
    ),
    _BY_OWN: (
        "{count} of {listing} {are} matched by the name of the XML file, because no image has the name in <filename>, "
        "first {name!r} with {file!r}."
    ),
    _AMBIGUOUS: (
        "{count} of {listing} could mean several files, or a file that another name means too, first {name!r} (file "
        "{file!r}); not matched. Write the names with their folders."
    ),
    _OTHER_CASE: (
        "{count} of {listing} {differ} from a file in letter case only, first {name!r} (file {file!r}); not matched. "
        "Write the names as the files are named."
    ),
    _OTHER_FOLDER: (
        "{count} of {listing} {have} the name of a file in another folder, first {name!r} (file {file!r}); not "
        "matched, because the file may be a different image. Write the names with their folders."
    ),
}


@dataclass
class NameMatcher:
    """Gives listed images the names of their files.

    Attributes:
        index: The listed names and the image files.
        listing: What the names are from, for the notes: "... of LISTING ...".
        file: File name of the listing, which may contain the name of a split, as in instances_val2017.json.
        root: The folder that the files lie in, where it is known.
        find: Looks up a name on the disk that the table of files does not have.
    """

    index: CorpusIndex
    listing: str
    file: str
    root: PurePath | None = None
    find: Callable[[str], str | None] | None = None
    _counts: Counter[str] = field(default_factory=Counter)
    _first: dict[str, tuple[str, str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._tails = self.index.path_tails()

    def run(self) -> list[str]:
        """Rename the listed images to their files.

        Returns:
            Notes on the names that were matched in part, and on those that were not matched although they look similar.
        """
        for name in self.index.not_on_disk():
            file = self._find_file(name)
            if file is not None:
                self.index.rename(name, file)
        for name, own in self.index.own_names_of_absent():
            file = own if self.index.holds(own) and not self.index.is_listed(own) else self._find_file(own)
            if file is not None:
                self._count(_BY_OWN, name, file)
                self.index.rename(name, file)
        for name in self.index.not_on_disk():
            self._count_hint(name)
        return self._notes()

    def _find_file(self, name: str) -> str | None:
        key = file_key(name)
        same = self._tails.whole_files(key)
        if len(same) == 1 and self._is_free(same[0], name):
            if _suffix_differs(name, same[0]):
                self._count(_BY_SUFFIX, name, same[0])
            return same[0]
        if same:
            return None
        on_disk = self.find(name) if self.find else None
        if on_disk is not None:
            return on_disk
        by_end = self._find_by_end(key)
        if by_end is None or not self._is_free(by_end, name):
            return None
        self._count(_BY_END, name, by_end)
        return by_end

    def _find_by_end(self, key: str) -> str | None:
        """The only file whose path ends in the name, or that the name ends in; None if a split contradicts it."""
        longer = self._tails.files(key)
        if longer:
            more = file_key(longer[0])
            added = more[: len(more) - len(key)] if more.endswith(key) else more.rpartition(key)[0]
            return longer[0] if len(longer) == 1 and self._may_add(added) else None
        for end in list(path_tails(key))[1:]:
            shorter = self._tails.whole_files(end)
            if shorter:
                return shorter[0] if len(shorter) == 1 and self._may_drop(key[: len(key) - len(end)]) else None
        return None

    def _may_add(self, folders: str) -> bool:
        """Whether the listing may have omitted these folders: not if its file is named after another split."""
        listed = _splits_in(self.file)
        return not listed or not (_splits_of(folders) - listed)

    def _may_drop(self, folders: str) -> bool:
        """Whether the image root may lie in these folders: a split among them must be that of the root."""
        splits = _splits_of(folders)
        if not splits:
            return True
        if self.root is None:
            return False
        dropped = PurePath(folders).parts
        return self.root.parts[-len(dropped) :] == dropped or splits == _splits_of(self.root.name)

    def _is_free(self, file: str, name: str) -> bool:
        """Whether no other listed name means the file, apart from other spellings of the same name."""
        is_taken = self.index.is_listed(file) and normalise_name(file) != normalise_name(name)
        return not is_taken and not self._tails.is_meant_by_others(file, name)

    def _count_hint(self, name: str) -> None:
        key = file_key(name)
        last = key.rpartition("/")[2]
        hints = (
            (_AMBIGUOUS, next(iter(self._tails.files(key)), None) or self._find_by_end(key)),
            (_OTHER_CASE, self._tails.file_in_other_case(key)),
            (_OTHER_FOLDER, next(iter(self._tails.files(last)), None)),
            (_OTHER_CASE, self._tails.file_in_other_case(last)),
        )
        for kind, file in hints:
            if file is not None and not self.index.is_listed(file):
                self._count(kind, name, file)
                return

    def _count(self, kind: str, name: str, file: str) -> None:
        self._counts[kind] += 1
        self._first.setdefault(kind, (name, file))

    def _notes(self) -> list[str]:
        notes = []
        for kind, sentence in _SENTENCES.items():
            number = self._counts[kind]
            if number:
                name, file = self._first[kind]
                forms = ("image", "is", "differs", "has") if number == 1 else ("images", "are", "differ", "have")
                noun, are, differ, have = forms
                notes.append(
                    sentence.format(
                        count=f"{number} {noun}",
                        listing=self.listing,
                        are=are,
                        differ=differ,
                        have=have,
                        name=name,
                        file=file,
                    )
                )
        return notes


def _suffix_differs(name: str, file: str) -> bool:
    """Whether both have the same suffix, in different letter case."""
    suffixes = [normalise_name(path)[-len(suffix_of(path)) :] for path in (name, file) if suffix_of(path)]
    return len(suffixes) == 2 and suffixes[0] != suffixes[1]


def _splits_of(folders: str) -> set[str]:
    """The canonical splits that folders of a path are named after."""
    return {split for folder in folders.split("/") if (split := canonical_split(folder)) is not None}


def _splits_in(file: str) -> set[str]:
    """The canonical splits that a file name contains as words, as in instances_val2017.json."""
    words = file.rpartition(".")[0].replace("-", "_").replace(" ", "_").replace(".", "_").split("_")
    return {split for word in words if (split := canonical_split(word)) is not None}
