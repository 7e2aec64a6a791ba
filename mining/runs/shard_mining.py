"""Mine one shard of a run."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

import torch

from mining.config import MineSettings
from mining.corpus import QUARANTINED, read_shard
from mining.engine.box_extraction import MapCallback
from mining.engine.miner import Miner, ProgressCallback
from mining.engine.outcome import ImageOutcome
from mining.models.card import read_card
from mining.models.checkpoint import load_model
from mining.runs.event_log import log_event
from mining.runs.part_origins import PartOrigins
from mining.runs.run import Run
from mining.runs.shard_files import done_outcomes, write_part


def mine_shard(
    run_dir: Path,
    shard: int,
    notify: ProgressCallback = lambda count: None,
    watch: MapCallback | None = None,
    *,
    device: str | None = None,
    threads: int | None = None,
) -> list[ImageOutcome]:
    """Mine one shard of a run and write its part, unless the part is there already.

    notify: called with the number of images done since the last call.
    watch: called with each map that is cut, from several threads; not for a part that is there already.
    device: instead of the run's. threads: instead of one a core, where the run leaves it open.
    Gives the images' outcomes. Raises StorageError when the disk refuses the part.
    """
    run = Run(run_dir)
    settings = run.settings
    # whoever shares the shards out, this one is mined here, on the device that this process was given
    here = {"runner": "local", "device": device or settings.device, "workers": settings.workers or threads}
    settings = settings.model_copy(update=here)
    part, curves = run.files_of(shard, curves=settings.curves)
    rows = read_shard(run.corpus, shard).to_pylist()
    origin = PartOrigins(run).of_rows(rows)
    if (done := done_outcomes(part, curves, origin)) is not None:
        notify(len(done))
        return done
    miner = _miner(run.model.resolve(), settings.model_dump_json(), read_card(run.model).weights_sha256)
    with _computing_with(settings.cpus_per_worker):
        outcomes = miner.mine(rows, notify, watch)
    write_part(part, outcomes, curves, miner.timing, origin)
    log_event(
        run.path, "shard mined", shard=shard, images=len(outcomes), boxes=sum(len(one.boxes) for one in outcomes),
        quarantined=sum(one.state == QUARANTINED for one in outcomes),
        seconds=None if miner.timing is None else round(miner.timing.seconds, 3),
    )  # fmt: skip
    return outcomes


@contextmanager
def _computing_with(cores: int | None) -> Iterator[None]:
    # how a layer's sums are split among threads shows in the last bits
    before = torch.get_num_threads()
    torch.set_num_threads(cores or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@lru_cache(maxsize=2)
def _miner(model: Path, settings: str, _weights: str) -> "Miner":
    # one model a process, however many shards it mines; another one when weights or settings are others
    parsed = MineSettings.model_validate_json(settings)
    return Miner(*load_model(model, parsed), parsed)
