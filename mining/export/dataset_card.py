"""The dataset card of an export: what its boxes are, for a person who finds the folder later."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from mining.corpus.schema import QUARANTINED
from mining.corpus.splits import TRAIN
from mining.export.base import ExportOptions, Written
from mining.export.card_limits import known_failures
from mining.export.card_origin import file_name_of, origin_lines, sentence_of_run
from mining.export.card_quality import SetQuality
from mining.export.card_text import counted, percent, plain, table
from mining.export.exported_set import ExportedSet
from mining.export.licences import UNKNOWN
from mining.export.set_figures import SetFigures, count_set
from mining.export.val_truth import SOURCE as TRUTH
from mining.models.card import IMPORTED

_SOURCES = {
    "label": "mined by the localizer; the class was given for the image",
    "prediction": "mined by the localizer; the class was predicted by the model",
    "object": "mined by the localizer; no class was probable enough",
    "import": "made by another tool",
    "human": "drawn, moved or renamed by a person",
    TRUTH: "ground truth",
}
_UNKNOWN_LINE = f"license: {UNKNOWN}"
_FILL_IN = (
    "boxmine does not know the licence of the images. Fill it in before you pass the set on; `boxmine export --license "
    "NAME` writes it here."
)


def write_card(
    path: Path, exported: ExportedSet, written: Written, options: ExportOptions, notes: Sequence[str],
    *, min_precision: float | None = None, promise: str = "",
) -> None:  # fmt: skip
    """Write the dataset card of a set to train on.

    The same run and options give the same bytes. It names no folder of this machine and no reviewer, and shows names of
    classes and files as plain text.

    Args:
        path: README.md of the export.
        exported: The images with their boxes.
        written: What the exporter wrote.
        options: Options of the export.
        notes: Sentences on what to know before training.
        min_precision: The precision that the export promises, if any.
        promise: The sentence that says so.

    Raises:
        InputError: The verdicts of the run are damaged.
        RunError: Its scores are damaged.
    """
    figures = count_set(exported, written.part_names or {}, keeps_ignored=written.keeps_ignored)
    quality = SetQuality(exported.run, options.min_score, promise)
    sections = {
        "Contents": _contents(exported, figures),
        "Classes": _classes(exported, figures, quality, written.class_numbers),
        "Sources of the boxes": _sources(figures),
        "How the boxes were made": origin_lines(exported, options, min_precision),
        "How good the boxes are": quality.lines(),
        "Corrected by people": _corrections(exported),
        "Known kinds of failure": _list(known_failures(exported, figures, quality)) or ["None was recorded."],
        "Before training": _list(sentence_of_run(exported.run, note) for note in notes),
        "Training": list(written.training),
        "Licence": [f"license: {plain(options.license)}"] if options.license else [_UNKNOWN_LINE, "", _FILL_IN],
    }
    text = [
        f"# Pseudo-annotations of the run {plain(exported.run.name)}",
        "",
        _summary(exported, written, figures.sources["human"]),
    ]
    for title, lines in sections.items():
        text += ["", f"## {title}", "", *lines] if lines else []
    path.write_text(written.readme_head + "\n".join(text) + "\n", encoding="utf-8")


def write_review_notes(path: Path, exported: ExportedSet, written: Written, notes: Sequence[str]) -> None:
    """Write the README of a set that people check in another tool: its counts, the source of the boxes, and notes."""
    lines = [
        f"# Boxes of the run {plain(exported.run.name)}, to be checked", "", _summary(exported, written), "",
        *_list(sentence_of_run(exported.run, note) for note in notes),
    ]  # fmt: skip
    path.write_text("\n".join(lines).rstrip() + "\n", encoding="utf-8")


def _summary(exported: ExportedSet, written: Written, by_people: int = 0) -> str:
    people = f" {counted(by_people, 'box was', 'boxes were')} drawn, moved or renamed by people." if by_people else ""
    return (
        f"{counted(written.boxes, 'box', 'boxes')} on {counted(written.images, 'image')}, exported by boxmine. "
        f"{_origin(exported)}{people}"
    )


def _origin(exported: ExportedSet) -> str:
    if _are_imported(exported):
        source = exported.run.record["inputs"].get("boxes")
        return f"The boxes were imported from {plain(file_name_of(source)) if source else 'another tool'}."
    return "Mined boxes were drawn by a weakly supervised localizer, not by people."


def _contents(exported: ExportedSet, figures: SetFigures) -> list[str]:
    parts = sorted(figures.images, key=lambda part: (part != TRAIN, "test" in part, part))
    counts_of = (figures.images, figures.boxes, figures.unboxed)
    rows = [(part, _kind(exported, figures, part), *(counts[part] for counts in counts_of)) for part in parts]
    rows += [("all", "", *(counts.total() for counts in counts_of))] if len(rows) > 1 else []
    lines = table(("part", "kind of boxes", "images", "boxes", "images without a box"), rows)
    counts = exported.run.record["counts"]
    left_out = int(counts.get("images", 0)) - figures.images.total()
    if left_out > 0:
        unread = int(counts.get("states", {}).get(QUARANTINED, 0))
        reason = f"; {unread} could not be read" if unread else ""
        lines += ["", f"{left_out} of the {counts['images']} images of the run are not in the set{reason}."]
    if figures.ignored:
        marked = counted(figures.ignored, "true box is", "true boxes are")
        lines += ["", f"{marked} marked to be ignored (iscrowd or difficult)."]
    for note in exported.near_duplicate_notes():
        lines += ["", sentence_of_run(exported.run, note)]
    return lines


def _kind(exported: ExportedSet, figures: SetFigures, part: str) -> str:
    kinds = dict.fromkeys(
        "true" if source == TRUTH else "imported" if source == "import" else "human" if source == "human" else "mined"
        for (where, source) in sorted(figures.sources_of)
        if where == part
    )
    return ", ".join(kinds) or ("imported" if _are_imported(exported) else "mined")


def _classes(
    exported: ExportedSet, figures: SetFigures, quality: SetQuality, numbers: Mapping[int, int] | None
) -> list[str]:
    listed = [(number, name) for number, name in exported.classes if figures.class_boxes[number]]
    columns: dict[str, list[object]] = {
        "class": [name for _, name in listed],
        "number": [numbers[number] for number, _ in listed] if numbers is not None else [],
        "boxes": [figures.class_boxes[number] for number, _ in listed],
        "images": [figures.class_images[number] for number, _ in listed],
        "precision in the run": [quality.precision_of(name) for _, name in listed],
    }
    shown = {title: cells for title, cells in columns.items() if any(cell != "" for cell in cells)}
    without = len(exported.classes) - len(listed)
    lines = table(list(shown), zip(*shown.values(), strict=True)) if listed else []
    extra = [f"{counted(without, 'class', 'classes')} of the list {'has' if without == 1 else 'have'} no box."]
    return [*lines, *([""] if lines else []), *extra] if without else lines


def _sources(figures: SetFigures) -> list[str]:
    total = figures.sources.total()
    rows = [
        (name, number, percent(number / total), _SOURCES.get(name, ""))
        for name, number in sorted(figures.sources.items(), key=lambda one: (-one[1], one[0]))
    ]
    return table(("source", "boxes", "share", "meaning"), rows) if rows else []


def _corrections(exported: ExportedSet) -> list[str]:
    found = exported.run.record.get("corrected")
    if not isinstance(found, Mapping):
        return []
    number = {key: int(found.get(key, 0)) for key in ("confirmed", "rejected", "corrected", "added")}
    return [
        f"People looked at boxes of an earlier run, and the run {plain(exported.run.name)} has the result: "
        f"{number['confirmed']} confirmed, {number['rejected']} rejected and removed, {number['corrected']} moved or "
        f"renamed, {number['added']} added on objects that had been missed. All other boxes are as they were mined."
    ]


def _list(lines: Iterable[str]) -> list[str]:
    return [f"- {line}" for line in lines]


def _are_imported(exported: ExportedSet) -> bool:
    return exported.run.card.localizer == IMPORTED
