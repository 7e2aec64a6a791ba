"""The files below a folder, streamed: links stay inside, cycles end, a million entries cost no memory."""

import os
from collections import Counter
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field

from mining.corpus.image_root import is_inside
from mining.corpus.images.image_formats import IMAGE_SUFFIXES, UNREAD_SUFFIXES, install_hint
from mining.corpus.names import is_valid_unicode, suffix_of
from mining.corpus.summary import format_count

# of Synology and QNAP, archives of macOS, Windows and file systems: thumbnails, recycle bins, snapshots
_LEFTOVERS = {
    "@eadir", "@recycle", "@recently-snapshot", "@tmp", "#recycle", "#snapshot", "__macosx", "$recycle.bin",
    "system volume information", "lost+found",
}  # fmt: skip
Opened = tuple[str, "os._ScandirIterator[str]"]


@dataclass
class FileWalker:
    """Iterate to get the names below `folder` (paths with '/'), in no order, of files with one of the suffixes.

    Hidden files and folders are passed over, and what NAS systems, archives and operating systems leave behind. Files
    of other kinds of pictures are counted by suffix. A link is followed where its target lies below the folder, a link
    to a folder once. What was left out is counted here and said by `notes`.
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
        # links to folders come after the real folders: which name a photo gets does not depend on the disk's order
        while self._links:
            self._links.sort(reverse=True)
            yield from self._below(self._links.pop() + "/")

    def _below(self, prefix: str) -> Iterator[str]:
        # one open folder a level, not a list of folders still to come: those may be a million
        stack = self._open(prefix)
        try:
            while stack:
                prefix, entries = stack[-1]
                entry = next(entries, None)
                if entry is None:
                    stack.pop()
                    entries.close()
                elif not _is_leftover(entry.name) and self._is_decodable(entry.name):
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

    def _open(self, prefix: str) -> list[Opened]:
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
        """What was left out, one sentence each."""
        folder = self.folder
        unread = ", ".join(sorted(self.unreadable)[:3])
        left_out = [
            (self.outside, "link", f"below {folder} not followed, because the target lies outside of it."),
            (self.broken, "link", f"below {folder} left out, because the target does not exist."),
            (self.cyclic, "link", f"below {folder} not followed, because the target is a folder above the link."),
            (self.undecodable, "name", f"below {folder} left out, because it is not valid UTF-8; rename to include."),
            (len(self.unreadable), "folder", f"left out, because it cannot be opened: {unread}."),
        ]
        notes = [f"{format_count(number, what)} {rest}" for number, what, rest in left_out if number]
        return [*self._note_on_unread(), *notes]

    def _note_on_unread(self) -> list[str]:
        if not self.unread or self.suffixes is not IMAGE_SUFFIXES:
            return []
        every = ", ".join(f"{count} {suffix}{install_hint(suffix)}" for suffix, count in self.unread.most_common())
        files = "file" if self.unread.total() == 1 else "files"
        return [f"{self.unread.total()} {files} below {self.folder} not read: {every}."]


def _is_leftover(name: str) -> bool:
    return name.startswith(".") or name.casefold() in _LEFTOVERS
