"""Score a finished run."""

from pathlib import Path
from typing import Any

from mining.config import (
    ScoreSettings,
)
from mining.corpus import (
    read_shard,
    read_summary,
    shard_count,
)
from mining.runs.run import Run
from mining.storage.integrity import with_digest


def score(settings: ScoreSettings, progress: Any = lambda done, total: None) -> dict[str, Any]:
    """Score a finished run against a truth and write scores.json. Raises RunError or ScoringError.

    progress: called with the images whose maps were drawn again and how many there are, where that is asked for.
    """
    from mining.evaluation import score_run, write_scores

    run = Run(settings.run)
    run.require_finished()
    scores = score_run(settings.run, settings.truth)
    scores["maps"] = None
    if settings.maps:
        scores["maps"], changed = _map_scores(run, settings.truth, progress)
        if changed:
            scores["notes"].append(f"{changed} images changed since the run or are gone; no map of them was drawn.")
    scores = with_digest(scores)
    write_scores(settings.run, scores)
    return scores


def _map_scores(run: Run, truth: Path, progress: Any) -> tuple[dict[str, Any], int]:
    """Figures of the run's maps, drawn again, and the number of images that are not those of the run any more."""
    from mining.engine.miner import Miner
    from mining.evaluation import read_truth
    from mining.evaluation.map_scores import MapScores, map_figures
    from mining.evaluation.protocols.region_accuracy import RegionAccuracy
    from mining.evaluation.protocols.wsoleval import BoxAccuracy
    from mining.models.checkpoint import load_model

    settings = run.settings.model_copy(update={"curves": False})
    miner = Miner(*load_model(run.model, settings), settings)
    protocol, own = BoxAccuracy(), RegionAccuracy(normalise=miner.extractor.params.normalise)
    seen = MapScores(read_truth(truth), run.corpus, protocol, own)
    images, done, changed = read_summary(run.corpus).images, 0, 0
    for shard in range(shard_count(run.corpus)):
        rows = read_shard(run.corpus, shard).to_pylist()
        changed += sum(outcome.replaced for outcome in miner.mine(rows, watch=seen.keep))
        seen.score()
        done += len(rows)
        progress(done, images)
    return map_figures(seen, protocol, own), changed
