"""Mine one shard of a run."""

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from mining.config import MineSettings
from mining.corpus import QUARANTINED, read_shard
from mining.engine.box_extraction import MapCallback
from mining.engine.miner import Miner, ProgressCallback
from mining.engine.outcome import ImageOutcome
from mining.models.card import is_detector, read_card
from mining.models.checkpoint import load_model
from mining.runs.event_log import log_event
from mining.runs.part_origins import PartOrigins
from mining.runs.run import Run
from mining.runs.shard_files import read_outcomes, write_part

if TYPE_CHECKING:
    from mining.engine.detector_miner import DetectorMiner


def mine_shard(
    run: Run,
    shard: int,
    on_progress: ProgressCallback = lambda count: None,
    on_map: MapCallback | None = None,
    *,
    device: str | None = None,
    threads: int | None = None,
) -> list[ImageOutcome]:
    """Mine one shard of a run and write its part, unless the part is there already.

    Execution is idempotent: any process may mine any shard, and a part appears whole or not at all.

    Args:
        run: The run; reuse it for several shards, so that its record is parsed once.
        shard: Number of the shard.
        on_progress: Called with the number of images done since the last call.
        on_map: Called with each map that boxes are extracted from, from several threads; not if the part exists.
        device: Device instead of the run's.
        threads: Threads if the run sets no number.

    Returns:
        The images' outcomes, in the order of the corpus table.

    Raises:
        StorageError: The disk refused the part.
    """
    settings = run.settings_used
    # whichever runner distributes the shards, this process mines this one, on the device that it was given
    workers = settings.workers or threads or settings.cpus_per_worker
    here = {"runner": "local", "device": device or settings.device, "workers": workers}
    settings = settings.model_copy(update=here)
    part, curves = run.files_of(shard, curves=settings.curves)
    rows = read_shard(run.corpus, shard).to_pylist()
    origin = PartOrigins(run).of_rows(rows)
    if (done := read_outcomes(part, curves, origin)) is not None:
        on_progress(len(done))
        return done
    miner = _load_miner(run.model.resolve(), settings.model_dump_json(), run.card.weights_sha256)
    outcomes = miner.mine(rows, on_progress, on_map)
    write_part(part, outcomes, curves, miner.timing, origin)
    log_event(
        run.path, "shard mined", shard=shard, images=len(outcomes), boxes=sum(len(one.boxes) for one in outcomes),
        quarantined=sum(one.state == QUARANTINED for one in outcomes),
        seconds=None if miner.timing is None else round(miner.timing.seconds, 3),
    )  # fmt: skip
    return outcomes


@lru_cache(maxsize=2)
def _load_miner(model: Path, settings: str, _weights_sha256: str) -> "Miner | DetectorMiner":
    # one model per process, however many shards it mines; another one if weights or settings differ
    parsed = MineSettings.model_validate_json(settings)
    if is_detector(read_card(model)):
        from mining.detection.folder import load_detector
        from mining.engine.detector_miner import DetectorMiner

        return DetectorMiner(*load_detector(model), parsed)
    return Miner(*load_model(model, parsed), parsed)
