"""The counts of a scan, taken while its rows go by."""

from collections import Counter
from dataclasses import dataclass, field

from mining.corpus.formats.notes import merged_images_notes
from mining.corpus.image_root import ImageRoot
from mining.corpus.listing import ListedImage, ListingInfo
from mining.corpus.summary import CorpusSummary, assign_category_ids, format_count, select_notes


@dataclass
class CorpusCounts:
    """What is counted; all numbers are images."""

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

    def summary(self, source: ListingInfo, root: ImageRoot, unlisted: int, notes: list[str]) -> CorpusSummary:
        """The summary of the rows counted so far."""
        ids, id_notes = assign_category_ids(source.category_ids, self.classes)
        return CorpusSummary(
            kind=source.kind,
            images=self.images,
            labelled=self.labelled,
            missing=self.missing,
            unlisted=unlisted,
            classes=dict(sorted(self.classes.items())),
            category_ids=ids,
            single_label=0 < self.labelled == self.with_one_label,
            notes=[*self._notes(source, root, unlisted), *id_notes, *notes],
        )

    def _notes(self, source: ListingInfo, root: ImageRoot, unlisted: int) -> list[str]:
        label_file = source.path.name if source.path else str(root.given)
        folded = Counter(name.casefold() for name in self.classes)
        alike = sorted(name for name in self.classes if folded[name.casefold()] > 1)
        noun, is_are, left_out = (
            ("image", "has", "is left out") if unlisted == 1 else ("images", "have", "are left out")
        )
        return select_notes(
            (source.kind == "classes", f"{_classes_in_words(self.classes)}; --labels none ignores them."),
            (unlisted, f"{unlisted} {noun} under {root.given} {is_are} no row in {label_file} and {left_out}."),
            (
                self.missing,
                f"{format_count(self.missing, 'image')} named by {label_file} but not to be found under {root.given}, "
                f"first {self.first_missing!r}; listed all the same, and quarantined when mined.",
            ),
            *((True, one) for one in merged_images_notes(label_file, self.repeated, "labels")),
            (
                self.in_two_splits,
                f"{format_count(self.in_two_splits, 'image')} in more than one split; the first one is kept.",
            ),
            (alike, f"Class names that differ in upper and lower case only: {', '.join(alike[:12])}."),
        )


def _classes_in_words(classes: Counter[str], limit: int = 12) -> str:
    shown = ", ".join(f"{name} {count}" for name, count in sorted(classes.items())[:limit])
    more = ", ..." if len(classes) > limit else ""
    return f"{len(classes)} {'class' if len(classes) == 1 else 'classes'} from folders: {shown}{more}"
