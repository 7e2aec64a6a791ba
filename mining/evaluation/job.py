"""Score a finished run and write its scores.json."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from mining.config import ScoreSettings
from mining.corpus import read_shard, read_summary, shard_count
from mining.evaluation.scores import MapScores, Scores, write_scores
from mining.runs.run import Run
from mining.storage.integrity import with_digest
from mining.storage.locks import share_path
from mining.storage.ownership import find_temporaries

ProgressCallback = Callable[[int, int], None]


def score(settings: ScoreSettings, progress: ProgressCallback = lambda done, total: None) -> Scores:
    """Score a finished run against a ground truth and write scores.json.

    Args:
        settings: Run, ground truth and what to compute.
        progress: With `settings.maps`, called with the number of images whose maps were drawn again, and their total.

    Returns:
        The content of scores.json.

    Raises:
        RunError: The run is not finished or cannot be read.
        ScoringError: The ground truth cannot be used.
    """
    from mining.evaluation.run_scoring import score_run

    run = Run(settings.run)
    run.require_finished()
    scores = score_run(settings.run, settings.truth, engine=settings.engine, classes_from=settings.classes_from)
    scores["maps"] = None
    if settings.maps:
        scores["maps"], changed = _score_maps(run, settings.truth, progress)
        if changed:
            scores["notes"].append(
                f"Maps of {changed} of the images were not drawn: the files changed or vanished since the run."
            )
    scores = cast(Scores, with_digest(cast(dict[str, Any], scores)))
    with share_path(run.corpus, lambda: _sweep(run)):
        write_scores(settings.run, scores)
    return scores


def _sweep(run: Run) -> None:
    """Delete what killed processes left half written of scores.json."""
    for path in find_temporaries(run.path):
        if path.name.endswith(f"-{run.scores.name}"):
            path.unlink(missing_ok=True)


def _score_maps(run: Run, truth: Path, progress: ProgressCallback) -> tuple[MapScores, int]:
    """Draw the run's maps again and score them; also the number of images that are not the run's any more."""
    from mining.engine.miner import Miner
    from mining.evaluation.map_scores import MapCollector, map_scores
    from mining.evaluation.protocols.explanation import ExplanationAccuracy
    from mining.evaluation.protocols.region_accuracy import RegionAccuracy
    from mining.evaluation.protocols.wsoleval import BoxAccuracy
    from mining.ground_truth.reading import read_ground_truth
    from mining.models.checkpoint import load_model

    settings = run.settings_used.model_copy(update={"curves": False})
    miner = Miner(*load_model(run.model, settings), settings)
    protocol, own = BoxAccuracy(), RegionAccuracy(normalise=miner.extractor.params.normalise)
    explained = ExplanationAccuracy()
    maps = MapCollector(read_ground_truth(truth), run.corpus, protocol, own, explained)
    images, done, changed = read_summary(run.corpus).images, 0, 0
    for shard in range(shard_count(run.corpus)):
        rows = read_shard(run.corpus, shard).to_pylist()
        changed += sum(outcome.replaced for outcome in miner.mine(rows, on_map=maps.collect))
        maps.count_collected()
        done += len(rows)
        progress(done, images)
    return map_scores(maps, protocol, own, explained), changed
