"""List the files below a folder in constant memory; symbolic links never lead outside or in circles."""

import os
from collections import Counter
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field

from mining.corpus.image_root import is_inside
from mining.corpus.images.image_formats import IMAGE_SUFFIXES, UNREAD_SUFFIXES, install_hint
from mining.corpus.names import is_valid_unicode, suffix_of

# thumbnails, recycle bins and snapshots of Synology, QNAP, macOS, Windows and file systems
_SYSTEM_FOLDERS = {
    "@eadir", "@recycle", "@recently-snapshot", "@tmp", "#recycle", "#snapshot", "__macosx", "$recycle.bin",
    "system volume information", "lost+found",
}  # fmt: skip
_OpenFolder = tuple[str, "os._ScandirIterator[str]"]


@dataclass
class FileWalker:
    """Iterate to get the names of the files below a folder that have one of the suffixes, in no particular order.

    Hidden files and folders are skipped, and so are the system folders of NAS devices, archives and operating systems.
    A symbolic link is followed if its target lies below the folder; a link to a folder is followed once. Skipped files
    are counted; `notes` reports them.

    Attributes:
        folder: The folder, without symbolic links.
        suffixes: The suffixes to list, in lower case.
        outside: Links that lead out of the folder.
        broken: Links without a target.
        cyclic: Links to a folder above themselves.
        undecodable: Names that are not valid UTF-8.
        unreadable: Folders that cannot be opened.
        unread: Number of image files in formats that are not supported, by suffix.
    """

    folder: str
    suffixes: frozenset[str] = IMAGE_SUFFIXES
    outside: int = 0
    broken: int = 0
    cyclic: int = 0
    undecodable: int = 0
    unreadable: list[str] = field(default_factory=list)
    unread: Counter[str] = field(default_factory=Counter)
    _links: list[str] = field(default_factory=list)
    _links_seen: set[tuple[int, int]] = field(default_factory=set)

    def __iter__(self) -> Generator[str, None, None]:
        yield from self._below("")
        # links to folders come last, so that the name of an image does not depend on the order of the disk
        while self._links:
            self._links.sort(reverse=True)
            yield from self._below(self._links.pop() + "/")

    def _below(self, prefix: str) -> Iterator[str]:
        # one open folder per level rather than a list of pending folders, which may be a million
        stack = self._open(prefix)
        try:
            while stack:
                prefix, entries = stack[-1]
                entry = next(entries, None)
                if entry is None:
                    stack.pop()
                    entries.close()
                elif not _is_skipped(entry.name) and self._is_decodable(entry.name):
                    name = prefix + entry.name
                    if entry.is_symlink():
                        if self._is_file_through_link(entry, name):
                            yield name
                    elif entry.is_dir(follow_symlinks=False):
                        stack += self._open(name + "/")
                    elif entry.is_file(follow_symlinks=False) and self._is_wanted(entry.name):
                        yield name
        finally:
            for _, entries in stack:
                entries.close()

    def _is_wanted(self, name: str) -> bool:
        suffix = suffix_of(name)
        if suffix in UNREAD_SUFFIXES:
            self.unread[suffix] += 1
        return suffix in self.suffixes

    def _open(self, prefix: str) -> list[_OpenFolder]:
        try:
            return [(prefix, os.scandir(f"{self.folder}/{prefix}"))]
        except OSError:
            self.unreadable.append(prefix.rstrip("/") or self.folder)
            return []

    def _is_decodable(self, name: str) -> bool:
        if is_valid_unicode(name):
            return True
        self.undecodable += 1
        return False

    def _is_file_through_link(self, entry: os.DirEntry[str], name: str) -> bool:
        target = os.path.realpath(entry.path)
        is_folder, looks_right = os.path.isdir(target), suffix_of(name) in self.suffixes
        if not (is_folder or looks_right):
            return False
        if not os.path.exists(target):
            self.broken += 1
        elif not is_inside(target, self.folder):
            self.outside += 1
        elif is_folder:
            self._keep_link(entry, name, target)
        else:
            return os.path.isfile(target)
        return False

    def _keep_link(self, entry: os.DirEntry[str], name: str, target: str) -> None:
        stat = entry.stat(follow_symlinks=False)
        identity = (stat.st_dev, stat.st_ino)
        if is_inside(os.path.realpath(os.path.dirname(entry.path)), target):
            self.cyclic += 1
        elif identity not in self._links_seen:
            self._links_seen.add(identity)
            self._links.append(name)

    def notes(self) -> list[str]:
        """Report what was skipped, one sentence per reason."""
        unread = ", ".join(sorted(self.unreadable)[:3])
        skipped = [
            (self.outside, "link", "not followed, because the target lies outside of it."),
            (self.broken, "link", "skipped, because the target does not exist."),
            (self.cyclic, "link", "not followed, because the target is a folder above the link."),
            (self.undecodable, "name", "skipped, because it is not valid UTF-8. Rename the file to use it."),
            (len(self.unreadable), "folder", f"skipped, because it cannot be opened: {unread}."),
        ]
        notes = [f"{_count_below(number, noun, self.folder)} {rest}" for number, noun, rest in skipped if number]
        return [*self._note_on_unread(), *notes]

    def _note_on_unread(self) -> list[str]:
        if not self.unread or self.suffixes is not IMAGE_SUFFIXES:
            return []
        counts = ", ".join(f"{count} {suffix}{install_hint(suffix)}" for suffix, count in self.unread.most_common())
        files = _count_below(self.unread.total(), "file", self.folder)
        return [f"{files} skipped, because the image format is not supported: {counts}."]


def _count_below(number: int, noun: str, folder: str) -> str:
    return f"1 {noun} below {folder} is" if number == 1 else f"{number} {noun}s below {folder} are"


def _is_skipped(name: str) -> bool:
    return name.startswith(".") or name.casefold() in _SYSTEM_FOLDERS
