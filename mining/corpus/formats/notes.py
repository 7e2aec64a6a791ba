"""Entries of a label or truth file that cannot be used: counted by reason, the first few named."""

from collections import Counter

_SHOWN = 3
_LONGEST_EXAMPLE = 120


class SkippedEntries:
    """What was left out of one file.

    file: its name, for the sentences.
    """

    def __init__(self, file: str) -> None:
        self.file = file
        self._seen: Counter[str] = Counter()
        self._counts: Counter[tuple[str, str]] = Counter()
        self._examples: dict[tuple[str, str], list[str]] = {}

    def see(self, what: str, number: int = 1) -> None:
        """Count entries of a kind (a noun in the plural), usable or not."""
        self._seen[what] += number

    def add(self, what: str, why: str, example: str) -> None:
        """Leave one entry out. why: continues '3 of 9 annotations in FILE ...'. example: how to find the entry."""
        self._counts[what, why] += 1
        shown = self._examples.setdefault((what, why), [])
        if len(shown) < _SHOWN:
            shown.append(example if len(example) <= _LONGEST_EXAMPLE else example[: _LONGEST_EXAMPLE - 3] + "...")

    def number(self, what: str) -> int:
        """How many entries of a kind were left out."""
        return sum(count for (kind, _), count in self._counts.items() if kind == what)

    def seen(self, what: str) -> int:
        """How many entries of a kind there were."""
        return self._seen[what]

    def notes(self) -> list[str]:
        """One sentence for each reason."""
        return [
            f"{count} of {self._seen[what]} {what} in {self.file} {why} "
            f"({'first: ' if count > 1 else ''}{', '.join(self._examples[what, why])}); left out."
            for (what, why), count in self._counts.items()
        ]

    def reasons(self, *whats: str) -> str:
        """The reasons for some kinds of entries, as part of a sentence; '' where there are none."""
        return "; ".join(
            f"{count} of {self._seen[what]} {what} {why} ({', '.join(self._examples[what, why])})"
            for (what, why), count in self._counts.items()
            if what in whats
        )


def two_sizes_message(file: str, name: str) -> str:
    """Why a file is refused in which one name stands for images of two sizes."""
    return (
        f"{file} lists the file name {name!r} more than once, with different sizes, so that it stands for different "
        "images. Write the names with their folders."
    )


def unknown_images_notes(file: str, number: int) -> list[str]:
    """The sentence on images that may hold objects which could not be read, where there are any."""
    images = "1 image has" if number == 1 else f"{number} images have"
    sentence = (
        f"{images} no annotation in {file} that can be used, while others could not be used or attached to an image: "
        "what such an image holds is not known."
    )
    return [sentence] if number else []


def merged_images_notes(file: str, number: int, what: str) -> list[str]:
    """The sentence on images that are listed more than once, where there are any. what: what was merged."""
    images = "1 image is" if number == 1 else f"{number} images are"
    return [f"{images} named more than once by {file}; the {what} are merged."] if number else []
