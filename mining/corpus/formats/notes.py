"""Entries of a label or ground truth file that cannot be used, counted by reason; and notes on both kinds of files."""

from collections import Counter

_MAX_EXAMPLES = 3
_MAX_EXAMPLE_LENGTH = 120


class SkippedEntries:
    """Entries of one file that were skipped.

    Args:
        file: Name of the file, for the notes.
    """

    def __init__(self, file: str) -> None:
        self.file = file
        self._seen: Counter[str] = Counter()
        self._counts: Counter[tuple[str, str]] = Counter()
        self._examples: dict[tuple[str, str], list[str]] = {}

    def see(self, what: str, number: int = 1) -> None:
        """Count entries of a kind, usable or not; `what` is a noun in the plural."""
        self._seen[what] += number

    def add(self, what: str, why: str, example: str) -> None:
        """Skip one entry.

        Args:
            what: Kind of the entry, a noun in the plural.
            why: The reason, which continues "3 of 9 annotations in FILE ...".
            example: How to find the entry in the file.
        """
        self._counts[what, why] += 1
        shown = self._examples.setdefault((what, why), [])
        if len(shown) < _MAX_EXAMPLES:
            shown.append(example if len(example) <= _MAX_EXAMPLE_LENGTH else example[: _MAX_EXAMPLE_LENGTH - 3] + "...")

    def number(self, what: str) -> int:
        """Number of entries of a kind that were skipped."""
        return sum(count for (kind, _), count in self._counts.items() if kind == what)

    def seen(self, what: str) -> int:
        """Number of entries of a kind, usable or not."""
        return self._seen[what]

    def notes(self) -> list[str]:
        """One sentence per reason."""
        return [
            f"{count} of {self._seen[what]} {what} in {self.file} {why} "
            f"({'first: ' if count > 1 else ''}{', '.join(self._examples[what, why])}); left out."
            for (what, why), count in self._counts.items()
        ]

    def reasons(self, *whats: str) -> str:
        """The reasons for which entries of some kinds were skipped, as part of a sentence; empty if there are none."""
        return "; ".join(
            f"{count} of {self._seen[what]} {what} {why} ({', '.join(self._examples[what, why])})"
            for (what, why), count in self._counts.items()
            if what in whats
        )


def two_sizes_message(file: str, name: str) -> str:
    """Why a file is refused that lists one file name with different image sizes."""
    return (
        f"{file} lists the file name {name!r} more than once, with different image sizes, so that it stands for "
        "different images. Write the names with their folders."
    )


def unknown_images_notes(file: str, number: int) -> list[str]:
    """A note on images whose annotations may not all have been read, if there are any."""
    images = "1 image has" if number == 1 else f"{number} images have"
    note = (
        f"{images} no usable annotation in {file}, which also has annotations that could not be used or attached to an "
        "image: the labels of these images are taken as unknown."
    )
    return [note] if number else []


def merged_images_notes(file: str, number: int, what: str) -> list[str]:
    """A note on images that are listed more than once, if there are any; `what` names what was merged."""
    images = "1 image is" if number == 1 else f"{number} images are"
    return [f"{images} listed more than once in {file}; the {what} are merged."] if number else []
