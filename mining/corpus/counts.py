"""Count the rows of a scan while they are written."""

from collections import Counter
from dataclasses import dataclass, field

from mining.corpus.formats.notes import merged_images_notes
from mining.corpus.image_root import ImageRoot
from mining.corpus.listing import ListedImage, ListingInfo
from mining.corpus.summary import CorpusSummary, assign_category_ids, format_count, select_notes


@dataclass
class CorpusCounts:
    """Counts of a scan; all numbers are images.

    Attributes:
        images: Rows of the table.
        labelled: Images whose labels are known, including those known to have none of the classes.
        missing: Listed images without a file.
        with_one_label: Images with exactly one class.
        repeated: Images that are listed more than once.
        in_two_splits: Images that are listed in more than one split.
        first_missing: Name of the first missing image.
        classes: Number of images per class.
    """

    images: int = 0
    labelled: int = 0
    missing: int = 0
    with_one_label: int = 0
    repeated: int = 0
    in_two_splits: int = 0
    first_missing: str = ""
    classes: Counter[str] = field(default_factory=Counter)

    def add(self, image: ListedImage, *, is_missing: bool) -> None:
        """Count one row of the table."""
        self.images += 1
        if is_missing:
            self.missing += 1
            self.first_missing = self.first_missing or image.name
        if image.labels is not None:
            self.labelled += 1
            self.with_one_label += len(image.labels) == 1
            self.classes.update(image.labels)

    def summarize(self, listing: ListingInfo, root: ImageRoot, unlisted: int, notes: list[str]) -> CorpusSummary:
        """Summarize the rows that were counted.

        Args:
            listing: The listing as a whole.
            root: The folder of the images.
            unlisted: Number of image files that are not listed.
            notes: Notes to put after those on the counts.
        """
        ids, id_notes = assign_category_ids(listing.category_ids, self.classes)
        return CorpusSummary(
            kind=listing.kind,
            images=self.images,
            labelled=self.labelled,
            missing=self.missing,
            unlisted=unlisted,
            classes=dict(sorted(self.classes.items())),
            category_ids=ids,
            single_label=0 < self.labelled == self.with_one_label,
            notes=[*self._notes(listing, root, unlisted), *id_notes, *notes],
        )

    def _notes(self, listing: ListingInfo, root: ImageRoot, unlisted: int) -> list[str]:
        label_file = listing.path.name if listing.path else str(root.given)
        folded = Counter(name.casefold() for name in self.classes)
        alike = sorted(name for name in self.classes if folded[name.casefold()] > 1)
        pronoun = "it is" if unlisted == 1 else "they are"
        return select_notes(
            (listing.kind == "classes", f"{_describe_classes(self.classes)}. Give --labels none to ignore them."),
            (
                unlisted,
                f"{format_count(unlisted, 'image')} found below {root.given}, but not listed in {label_file}; "
                f"{pronoun} not used.",
            ),
            (
                self.missing,
                f"{format_count(self.missing, 'image')} listed in {label_file}, but missing below {root.given}, first "
                f"{self.first_missing!r}; mining puts missing images into quarantine.",
            ),
            *((True, note) for note in merged_images_notes(label_file, self.repeated, "labels")),
            (
                self.in_two_splits,
                f"{format_count(self.in_two_splits, 'image')} listed in more than one split; the first split is kept.",
            ),
            (
                alike,
                f"Some class names differ in letter case only, and are different classes: {', '.join(alike[:12])}.",
            ),
        )


def _describe_classes(classes: Counter[str], limit: int = 12) -> str:
    shown = ", ".join(f"{name} {count}" for name, count in sorted(classes.items())[:limit])
    more = ", ..." if len(classes) > limit else ""
    return f"{len(classes)} {'class' if len(classes) == 1 else 'classes'} from folder names: {shown}{more}"
