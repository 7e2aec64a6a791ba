"""Match the names that a listing gives with the names of image files: the one place for labels and for truth.

A listed name means the file of the same name (see `mining.corpus.names`). Where there is none, it means the one file
whose path ends in it, or in whose name its own path ends, if no other file and no other listed name could be meant.
Never does a folder named after a split take part in that unless it is known to be the same split. What was matched so,
and what was not although it looks alike, is counted and named.
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
    _BY_END: "{count} of {listing} {are} found by the end of the path, first {name!r} as {file!r}.",
    _BY_SUFFIX: (
        "{count} of {listing} {are} found although the suffix differs in letter case, first {name!r} as {file!r}."
    ),
    _BY_OWN: (
        "{count} of {listing} {are} found by the name of the XML file, because no file has the name in <filename>, "
        "first {name!r} as {file!r}."
    ),
    _AMBIGUOUS: (
        "{count} of {listing} could mean more than one file, or a file that others mean too, first {name!r} (file "
        "{file!r}); not matched. Write the names with their folders."
    ),
    _OTHER_CASE: (
        "{count} of {listing} {differ} from a file in upper and lower case only, first {name!r} (file {file!r}); not "
        "matched. Write the names as the files have them."
    ),
    _OTHER_FOLDER: (
        "{count} of {listing} {have} the name of a file in another folder, first {name!r} (file {file!r}); not "
        "matched, because it may be another image. Write the names with their folders."
    ),
}


@dataclass
class NameMatcher:
    """Gives listed names the names of the image files they mean, and counts what it did.

    listing: what the names are from, for the sentences: '... of LISTING ...'. file: the listing's file name, which
    may name a split. root: the folder that the files lie in, where it is known. find: look for one name on the disk
    that the table of files does not have.
    """

    table: CorpusIndex
    listing: str
    file: str
    root: PurePath | None = None
    find: Callable[[str], str | None] | None = None
    _counts: Counter[str] = field(default_factory=Counter)
    _first: dict[str, tuple[str, str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._ends = self.table.path_ends()

    def run(self) -> list[str]:
        """Rename the listed images; gives the notes on what was matched by less than its name, and what was not."""
        for name in self.table.not_on_disk():
            found = self._found(name)
            if found is not None:
                self.table.rename(name, found)
        for name, own in self.table.own_names_of_absent():
            found = own if self.table.holds(own) and not self.table.is_listed(own) else self._found(own)
            if found is not None:
                self._count(_BY_OWN, name, found)
                self.table.rename(name, found)
        for name in self.table.not_on_disk():
            self._count_hint(name)
        return self._notes()

    def _found(self, name: str) -> str | None:
        key = file_key(name)
        same = self._ends.whole_files(key)
        if len(same) == 1 and self._is_free(same[0], name):
            if _suffix_differs(name, same[0]):
                self._count(_BY_SUFFIX, name, same[0])
            return same[0]
        if same:
            return None
        on_disk = self.find(name) if self.find else None
        if on_disk is not None:
            return on_disk
        by_end = self._by_end(key)
        if by_end is None or not self._is_free(by_end, name):
            return None
        self._count(_BY_END, name, by_end)
        return by_end

    def _by_end(self, key: str) -> str | None:
        """The one file whose path ends in the name, or in whose path the name ends; None where a split contradicts."""
        longer = self._ends.files(key)
        if longer:
            more = file_key(longer[0])
            added = more[: len(more) - len(key)] if more.endswith(key) else more.rpartition(key)[0]
            return longer[0] if len(longer) == 1 and self._may_add(added) else None
        for end in list(path_tails(key))[1:]:
            shorter = self._ends.whole_files(end)
            if shorter:
                return shorter[0] if len(shorter) == 1 and self._may_drop(key[: len(key) - len(end)]) else None
        return None

    def _may_add(self, folders: str) -> bool:
        """Whether the listing may have left out these folders: not where its file is named after another split."""
        listed = _splits_in(self.file)
        return not listed or not (_splits_of(folders) - listed)

    def _may_drop(self, folders: str) -> bool:
        """Whether the files may lie in these folders: a split must be known to be that of the root."""
        splits = _splits_of(folders)
        if not splits:
            return True
        if self.root is None:
            return False
        dropped = PurePath(folders).parts
        return self.root.parts[-len(dropped) :] == dropped or splits == _splits_of(self.root.name)

    def _is_free(self, file: str, name: str) -> bool:
        """Whether no other listed name means the file; other spellings of the same name may."""
        is_taken = self.table.is_listed(file) and normalise_name(file) != normalise_name(name)
        return not is_taken and not self._ends.is_meant_by_others(file, name)

    def _count_hint(self, name: str) -> None:
        key = file_key(name)
        last = key.rpartition("/")[2]
        hints = (
            (_AMBIGUOUS, next(iter(self._ends.files(key)), None) or self._by_end(key)),
            (_OTHER_CASE, self._ends.file_in_other_case(key)),
            (_OTHER_FOLDER, next(iter(self._ends.files(last)), None)),
            (_OTHER_CASE, self._ends.file_in_other_case(last)),
        )
        for kind, file in hints:
            if file is not None and not self.table.is_listed(file):
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
                words = ("image", "is", "differs", "has") if number == 1 else ("images", "are", "differ", "have")
                noun, are, differ, have = words
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
    """Whether both have the same suffix, in other letter case."""
    suffixes = [normalise_name(one)[-len(suffix_of(one)) :] for one in (name, file) if suffix_of(one)]
    return len(suffixes) == 2 and suffixes[0] != suffixes[1]


def _splits_of(folders: str) -> set[str]:
    """The splits that folders of a path are named after."""
    return {part for one in folders.split("/") if (part := canonical_split(one)) is not None}


def _splits_in(file: str) -> set[str]:
    """The splits that a file name holds as words, as in instances_val2017.json."""
    words = file.rpartition(".")[0].replace("-", "_").replace(" ", "_").replace(".", "_").split("_")
    return {part for one in words if (part := canonical_split(one)) is not None}
