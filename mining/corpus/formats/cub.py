"""CUB list files, read in the same way as labels and as ground truth. Each line is an id, a space and a value."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from mining.corpus.formats.notes import SkippedEntries
from mining.corpus.formats.parsing import label_file_errors
from mining.corpus.names import normalise_class_name, validate_file_name
from mining.errors import CorpusError
from mining.storage.untrusted_files import iter_lines

IMAGES, LABELS, CLASSES, SPLITS = "images.txt", "image_class_labels.txt", "classes.txt", "train_test_split.txt"
BOXES = "bounding_boxes.txt"


def contains_cub(folder: Path) -> bool:
    """Whether the folder contains images.txt."""
    return (folder / IMAGES).is_file()


def iter_entries(path: Path) -> Iterator[tuple[str, str]]:
    """Read each line's id and value.

    Raises:
        CorpusError: The file cannot be read, or a line has no value.
    """
    with label_file_errors(path), closing(iter_lines(path)) as text:
        for number, line in enumerate(text, start=1):
            identity, _, value = line.strip().partition(" ")
            if identity and not value.strip():
                raise CorpusError(f"{path}, line {number}: expected an id, a space and a value, found {line!r:.80}.")
            if identity:
                yield identity, value.strip()


class CubLists:
    """The list files of a folder.

    Args:
        folder: The folder.

    Attributes:
        left_out: The lines that were skipped so far.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.left_out = SkippedEntries(folder.name)

    def classes(self) -> dict[str, str]:
        """Read the class name of each class id."""
        return {identity: normalise_class_name(name) for identity, name in iter_entries(self.folder / CLASSES)}

    def labels(self, classes: dict[str, str]) -> Iterator[tuple[str, str]]:
        """Read image ids and class names.

        Raises:
            CorpusError: No line has a known class.
        """
        what, first = f"lines of {LABELS}", ""
        for identity, label in iter_entries(self.folder / LABELS):
            self.left_out.see(what)
            if label in classes:
                yield identity, classes[label]
            else:
                first = first or f"image {identity} has class {label!r}, which {CLASSES} does not list"
                self.left_out.add(what, f"name a class that {CLASSES} does not list", f"image {identity}: {label!r}")
        if first and self.left_out.number(what) == self.left_out.seen(what):
            raise CorpusError(f"{self.folder / LABELS}: {first}. Correct the class ids in one of the files.")

    def images(self) -> Iterator[tuple[str, str]]:
        """Read image ids and file names.

        Raises:
            CorpusError: A file name is empty or leads out of the image root.
        """
        for identity, written in iter_entries(self.folder / IMAGES):
            yield identity, validate_file_name(written, f"{IMAGES}, image {identity}")
