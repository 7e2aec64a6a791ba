"""Known kinds of failure of an export's boxes: what the run says of itself, its verdicts, and counts of the export."""

from mining.export.card_origin import sentence_of_run
from mining.export.card_quality import SetQuality
from mining.export.card_text import counted, percent, plain
from mining.export.exported_set import ExportedSet
from mining.export.set_figures import SetFigures
from mining.models.card import IMPORTED, is_detector
from mining.runs.box_warnings import WHOLE_IMAGE

_NAMED_CLASSES = 12
_FAILURES = {
    "too_large": "too large", "too_small": "too small", "wrong_place": "at a wrong place",
    "wrong_class": "of a wrong class", "nothing": "on no object",
}  # fmt: skip


def known_failures(exported: ExportedSet, figures: SetFigures, quality: SetQuality) -> list[str]:
    """Return sentences, in Markdown, each of which follows from the run or a count."""
    warnings = [*exported.run.record["warnings"], *exported.run.card.warnings]
    found = [sentence_of_run(exported.run, one) for one in dict.fromkeys(map(str, warnings))]
    counts = quality.verdict_counts()
    wrong = [f"{counts[one]} {words}" for one, words in _FAILURES.items() if counts[one]]
    if wrong:
        found.append(f"Of {counts.total()} verdicts on boxes drawn at random, these were faults: {', '.join(wrong)}.")
    classes = quality.imprecise_classes()
    if classes:
        named = ", ".join(plain(one) for one in classes[:_NAMED_CLASSES])
        more = f" and {len(classes) - _NAMED_CLASSES} more" if len(classes) > _NAMED_CLASSES else ""
        found.append(f"Classes whose boxes are less precise than those of all classes together: {named}{more}.")
    return [*found, *_of_counts(exported, figures)]


def _of_counts(exported: ExportedSet, figures: SetFigures) -> list[str]:
    found = []
    if figures.whole:
        share = percent(figures.whole / figures.not_true)
        limit = f"{100 * WHOLE_IMAGE:.0f} %"
        found.append(
            f"{counted(figures.whole, 'box covers', 'boxes cover')} {limit} of the image or more ({share}): "
            "either the object fills the image, or it was not localized."
        )
    if figures.several:
        images = counted(figures.several, "image has", "images have")
        found.append(
            f"{images} several boxes of one class. They may be several objects, or one object that was boxed twice."
        )
    if figures.sources["prediction"]:
        number = counted(figures.sources["prediction"], "box has", "boxes have")
        found.append(f"{number} a class that the model predicted for the image; it may be wrong.")
    if figures.sources["object"]:
        number = counted(figures.sources["object"], "box has", "boxes have")
        found.append(f"{number} the class `object`, because no class was probable enough.")
    if is_detector(exported.run.card):
        found.append("The detector learned from mined boxes and may repeat their errors.")
    elif figures.sources["label"] + figures.sources["prediction"] and exported.run.card.localizer != IMPORTED:
        found.append(
            "The localizer learnt from image-level labels only. Nothing in its training says where an object ends, or "
            "how many objects of a class an image shows."
        )
    return found
