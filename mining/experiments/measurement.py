"""Measure a cell: the same steps as the commands train, mine and score, and MaxBoxAccV2 of the maps in passing."""

import json
import time
from collections.abc import Callable, Sequence
from typing import Any

from mining.backbones.registry import spec_of
from mining.config import MineSettings, Settings, TrainSettings, setting_or_default
from mining.errors import ModelError
from mining.evaluation import read_ground_truth
from mining.evaluation.map_scores import MapCollector
from mining.evaluation.protocols.wsoleval import BoxAccuracy, threshold_grid
from mining.evaluation.run_comparison import best_boxes
from mining.evaluation.run_reading import read_run_boxes
from mining.evaluation.run_scoring import best_iou_of_pairs, score_run
from mining.experiments.cells import Cell, make_cells
from mining.experiments.comparison import FIGURES
from mining.experiments.folder import clear_run
from mining.experiments.settings import ExperimentSettings
from mining.localizers.loading import localizer_named
from mining.localizers.option_values import build_config
from mining.localizers.registry import LOCALIZERS
from mining.models import overrides
from mining.models.card import ModelCard
from mining.runs import mining_job
from mining.runs.shard_mining import mine_shard
from mining.storage.files import write_json
from mining.storage.ownership import token_of
from mining.training import job as training_job
from mining.training.localizer_defaults import with_localizer_defaults
from mining.training.summary import TrainingSummary

MAP_THRESHOLDS = 0.01  # step of the thresholds behind MaxBoxAccV2


def measure(cell: Cell, train: Callable[[TrainSettings], TrainingSummary] = training_job.train) -> dict[str, Any]:
    """Return the cell's figures; they are measured unless they exist already for the same settings.

    Args:
        cell: The cell.
        train: Trains a model and returns a summary.

    Returns:
        Figures by name, shares in [0, 1]; `pairs` lists the best IoU of each pair of image and class, `boxes` the xyxy
        of the best-scored box of each pair that has one.

    Raises:
        BoxmineError: Training, mining or scoring failed.
    """
    earlier = read_figures(cell)
    if earlier is not None:
        return earlier
    training = train(cell.train)
    truth = read_ground_truth(cell.truth)
    with mining_job.lock_run(cell.mine.out):
        token = token_of(cell.experiment)
        clear_run(cell, token)
        plan = mining_job.plan_mining(cell.mine)
        plan.run.update(experiment=token)
        accuracy = BoxAccuracy(threshold_grid(MAP_THRESHOLDS))
        maps, seconds = MapCollector(truth, plan.run.corpus, accuracy), 0.0
        for shard in plan.shards:
            started = time.perf_counter()
            mine_shard(plan.run, shard, on_map=maps.collect)
            seconds += time.perf_counter() - started
            maps.count_collected()
        summary = mining_job.finish_mining(plan.run, seconds)
    scores = score_run(cell.mine.out, cell.truth, resamples=0)
    corloc = scores["corloc"]
    figures = {
        "cell": _identity(cell),
        "corloc": corloc["value"], "corloc_0.3": corloc["at_0.3"], "corloc_0.7": corloc["at_0.7"],
        "instance_recall": corloc["instance_recall"],
        "instance_recall_at_1_fp": corloc["instance_recall_at_1_fp"], "boxes_per_pair": corloc["boxes_per_pair"],
        "false_positives_per_image": scores["false_positives_per_image"], "ap50": scores["coco"]["AP50"],
        "max_box_acc_v2": accuracy.max_box_acc_v2(),
        "train_seconds": training.seconds, "epochs": training.epochs, "held_back": training.value,
        "mine_seconds": seconds, "images": summary.images, "warnings": summary.warnings,
        "pairs": best_iou_of_pairs(cell.mine.out, cell.truth),
        "boxes": [(*pair, *box.tolist()) for pair, box in best_boxes(read_run_boxes(cell.mine.out)).items()],
    }  # fmt: skip
    cell.figures.parent.mkdir(parents=True, exist_ok=True)
    write_json(cell.figures, figures)
    return figures


def plan_cells(settings: ExperimentSettings) -> list[Cell]:
    """Return all cells of an experiment, after checking that each can be measured. Raises ModelError."""
    cells = make_cells(settings)
    validate_cells(cells)
    return cells


def validate_cells(cells: Sequence[Cell]) -> None:
    """Raise ModelError if a cell names an unknown backbone, localizer or option."""
    for cell in cells:
        try:
            spec_of(cell.train.backbone)
            build_config(localizer_named(cell.train.localizer).Config, cell.train.options)
            card = ModelCard(cell.train.localizer, cell.train.backbone, "single", [], 0, {}, cell.train.options)
            overrides.apply_overrides(card, cell.mine)
        except ModelError as error:
            raise ModelError(f"Variant {cell.variant!r}: {error}") from None


def read_figures(cell: Cell) -> dict[str, Any] | None:
    """Return the cell's figures if they were measured with these settings, else None."""
    if not cell.figures.exists():
        return None
    try:
        figures: dict[str, Any] = json.loads(cell.figures.read_text("utf-8"))
        is_complete = figures.keys() >= {*FIGURES, "boxes"}  # not if an earlier version measured it
        return figures if is_complete and _is_same_cell(figures["cell"], _identity(cell)) else None
    except (ValueError, KeyError, TypeError, AttributeError):  # a damaged file is measured again
        return None


def _is_same_cell(recorded: dict[str, Any], identity: dict[str, Any]) -> bool:
    """Return whether recorded figures are of this cell; settings that are new since then had their defaults."""
    kinds: dict[str, type[Settings]] = {"train": TrainSettings, "mine": MineSettings}
    settings = {
        part: {name: setting_or_default(kind, recorded[part], name) for name in identity[part]}
        for part, kind in kinds.items()
    }
    return {**recorded, **settings} == identity


def _identity(cell: Cell) -> dict[str, Any]:
    """Everything the figures depend on, including the localizers' defaults for settings that are not given."""
    trained = localizer_named(cell.train.localizer)
    mined = cell.mine.localizer or cell.train.localizer
    threshold, normalise = LOCALIZERS[mined].map_cut({**cell.train.options, **cell.mine.options})
    defaults = {
        "learning_rate": trained.learning_rate, "threshold": threshold, "normalise": normalise,
        "cell_threshold": overrides.CELL_THRESHOLD,
    }  # fmt: skip
    identity = cell.identity()
    resolved = with_localizer_defaults(cell.train)
    train = {**identity["train"], "restart_rate": resolved.restart_rate}
    return {**identity, "train": train, "defaults": {**defaults, **_changed_defaults(cell.train, resolved)}}


def _changed_defaults(settings: TrainSettings, resolved: TrainSettings) -> dict[str, Any]:
    """Defaults of the localizer that differ from those of earlier versions, as far as the settings leave them open."""
    changed = {name: value for name, value in resolved.options.items() if name not in settings.options}
    return changed if resolved.restart == (settings.restart or None) else {**changed, "restart": resolved.restart}
