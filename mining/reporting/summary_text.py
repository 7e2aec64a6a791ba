"""The texts and tables of the report page."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from mining.config import DETECTOR_KINDS
from mining.corpus.schema import QUARANTINED, STATES
from mining.evaluation.scores import BreakdownScores, Scores
from mining.models.card import IMPORTED, is_detector, read_card
from mining.reporting.score_rows import CUT_HEADINGS, cut_rows, score_rows, verdict
from mining.runs.fused_record import FUSED, describe_fusion
from mining.runs.run import MODEL_FOLDER, Run
from mining.storage.parquet import iter_batches

Pairs = list[tuple[str, str]]
MAX_REASONS = 100
_REFINED = {
    "cells": ", refined by the cell classifier",
    "walk": ", refined by the affinity walk",
    "cut": ", refined by normalised cuts",
}


def describe_run(run: Run, record: Mapping[str, Any]) -> str:
    """Describe in sentences what was run."""
    fusion = describe_fusion(record)
    made = _describe_mining(run, record)
    return made if fusion is None else f"{fusion} Of the first run: {made}"


def _describe_mining(run: Run, record: Mapping[str, Any]) -> str:
    config, used, card = record["config"], record["used"], read_card(run.model)
    if card.localizer == IMPORTED:
        return (
            f"Images from {_place(Path(config['images']))}. Boxes imported from "
            f"{Path(record['inputs']['boxes']).name}, "
            f"{_count_classes(card.class_names)}. {_when(record)}"
        )
    labels = config.get("labels")
    known = {None: "", "none": ", without labels"}.get(labels, f", labels from {Path(str(labels)).name}")
    split = f", split {config['split']}" if config.get("split") else ""
    if is_detector(card):
        return (
            f"Images from {_place(Path(config['images']))}{known}{split}. Boxes by a detector, {card.localizer} on "
            f"{card.backbone}, {_count_classes(card.class_names)}, that learned from mined boxes. {_when(record)}"
        )
    scales = _scales(used.get("scales") or config["scales"])  # an earlier version always recorded the latter
    return (
        f"Images from {_place(Path(config['images']))}{known}{split}. Maps by {used['localizer']} on {card.backbone}, "
        f"{_count_classes(card.class_names)}, at {scales}"
        f"{_REFINED.get(used.get('refine', ''), '')}; boxes cut {_format_threshold(used)}. {_when(record)}"
    )


def _count_classes(names: Sequence[str]) -> str:
    return f"{len(names)} {'class' if len(names) == 1 else 'classes'}"


def define_score(record: Mapping[str, Any]) -> str:
    """Say how the scores of a run were computed, from its record; see the columns' meanings."""
    used, fused = record["used"], record.get(FUSED)
    if fused is not None:
        first = define_score({"used": used})
        if "found_by" not in fused:
            return f"{first}; of boxes that only the detector found, it is a share of the detector's score"
        return (
            "a score is the sum of the scores that the box has in the runs that found it, over the number of all runs; "
            f"in the first run, {first}"
        )
    if used.get("localizer") == IMPORTED:
        return "a score is what the imported file states, or 1 if it states none"
    if used.get("localizer") in DETECTOR_KINDS:
        return "a score is the detector's: its confidence that an object of the class is there, and that the box fits"
    if used.get("refine") == "cells":
        return (
            "a score is the mean probability of the class over the box's region, times the box's agreement with the "
            "boxes of a higher threshold and of the unrefined map, and times the class's probability for the whole "
            "image if the class was predicted"
        )
    return (
        "a score is the class's probability for the whole image times the peak of its activation map, so that it does "
        "not depend on how well the edges fit"
    )


def _format_threshold(used: Mapping[str, Any]) -> str:
    threshold, of_class = used["threshold"], used.get("class_thresholds")
    if of_class:
        return f"at a threshold per class, {min(of_class.values()):g} to {max(of_class.values()):g} of a map's range"
    if isinstance(threshold, str):
        return f"at each map's own threshold ({threshold})"
    return f"where a map reaches {threshold:g} of its range"


def _place(folder: Path) -> str:
    return "/".join(folder.parts[-2:]).removeprefix("//")


def _scales(scales: list[float]) -> str:
    return f"scale{'s' if len(scales) > 1 else ''} {', '.join(f'{scale:g}' for scale in scales)}"


def _when(record: Mapping[str, Any]) -> str:
    started = datetime.fromisoformat(record["started"])
    seconds = sum(record["seconds"].values())
    return f"Started {started.day} {started:%B %Y at %H:%M} UTC; took {format_duration(seconds)}."


def format_duration(seconds: float) -> str:
    """Format a duration as '9.5 s', '1 min 42 s' or '3 h 5 min'."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def detail_groups(run: Run, record: Mapping[str, Any]) -> list[tuple[str, Pairs]]:
    """Return titled groups of (name, value): settings, inputs, training, versions."""
    card = read_card(run.model)
    trained = {name: value for name, value in card.training.items() if isinstance(value, str | int | float)}
    groups = {
        "Settings": record["config"],
        "Fingerprints of the inputs": record["inputs"],
        "Training of the model": {"objective": card.objective, "input size, px": card.input_size, **trained},
        "Versions": record["versions"],
    }
    return [
        (title, [(name, format_setting(value)) for name, value in values.items()]) for title, values in groups.items()
    ]


def format_setting(value: Any) -> str:
    """Format a setting's value as a user writes it."""
    if value is None:
        return "not set"
    if isinstance(value, list):
        return ", ".join(format_setting(item) for item in value)
    return f"{value:g}" if isinstance(value, float) else str(value)


def differing_settings(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Return (setting, in the first run, in the second) where the records of two runs differ, but for their places."""
    before, after = (_settings_used(one) for one in (first, second))
    names = [name for name in {**before, **after} if before.get(name) != after.get(name)]
    return [(name, format_setting(before.get(name)), format_setting(after.get(name))) for name in names]


def _settings_used(record: Mapping[str, Any]) -> dict[str, Any]:
    settings = {**record["config"], **record["used"], **record["inputs"]}
    out = settings.pop("out", None)
    if out is not None and settings.get("model") == str(Path(out) / MODEL_FOLDER):  # of a version of a label store
        del settings["model"]
    return settings


def state_rows(states: Mapping[str, int]) -> list[tuple[str, int, str]]:
    """Return (state, number of images, meaning) of the states that occur."""
    return [(name.replace("_", " "), states[name], meaning) for name, meaning in STATES.items() if states.get(name)]


def quarantine_rows(run: Run, states: Mapping[str, int]) -> Pairs:
    """Return (file name, reason) of the first images that could not be used."""
    if not states.get(QUARANTINED) or not run.quarantine.is_file():
        return []
    batch = next(iter_batches(run.quarantine, ["file_name", "reason"], MAX_REASONS), None)
    return [] if batch is None else [(row["file_name"], row["reason"]) for row in batch.to_pylist()]


_BREAKDOWNS: tuple[tuple[str, str, dict[str, str]], ...] = (
    (
        "by_size",
        "By size of the object: small up to 32 x 32 px, medium up to 96 x 96 px",
        {"objects": "Objects", "AP": "AP", "AR": "AR", "instance_recall": "Found"},
    ),
    (
        "by_instances",
        "By the number of true boxes of the class in the image",
        {"pairs": "Pairs", "objects": "Objects", "boxes": "Boxes", "corloc": "CorLoc", "AP50": "AP50",
         "instance_recall": "Found"},
    ),
)  # fmt: skip


def score_content(scores: Scores | None) -> dict[str, Any] | None:
    """Return what the page shows of scores.json; shares in percent.

    Args:
        scores: Content of scores.json; None where the run was not scored.
    """
    if scores is None:
        return None
    return {
        "verdict": verdict(scores),
        "rows": score_rows(scores),
        "cut_headings": CUT_HEADINGS,
        "cuts": cut_rows(scores),
        "corloc": scores["corloc"],
        "precision": scores.get("precision"),
        "truth": scores["truth"],
        "images": scores["images"],
        "notes": scores["notes"],
        "ap50": scores["coco"].get("per_class_AP50") or {},
        "definitions": _definitions(scores),
        "tables": _tables(scores.get("breakdown")),
    }


def _tables(breakdown: BreakdownScores | None) -> list[tuple[str, list[str], list[tuple[str, list[str]]]]]:
    """Title, column names and rows of the tables that break the scores down; shares in percent."""
    if breakdown is None:
        return []
    tables = []
    rows_by_key: dict[str, Mapping[str, Any]] = {
        "by_size": breakdown["by_size"],
        "by_instances": breakdown["by_instances"],
    }
    for key, title, columns in _BREAKDOWNS:
        rows = [(name, [_cell(row[column]) for column in columns]) for name, row in rows_by_key[key].items()]
        tables.append((title, list(columns.values()), rows))
    return tables


def _cell(value: float | None) -> str:
    if value is None:
        return "\N{EN DASH}"
    return f"{value:,}" if isinstance(value, int) else f"{100 * value:.1f} %"


def _definitions(scores: Scores) -> Pairs:
    """The definitions that scores.json states, with a title each."""
    parts: dict[str, Mapping[str, Any] | None] = {
        "CorLoc": scores["corloc"],
        "Precision by ground truth": scores.get("precision"),
        "Thresholds": scores.get("thresholds"),
        "Localization and classification errors": scores.get("localization"),
        "VOC AP": scores.get("voc"),
        "By size and number of objects": scores.get("breakdown"),
        "Maps": scores.get("maps"),
    }
    return [(title, str(part["definition"])) for title, part in parts.items() if part and "definition" in part]
