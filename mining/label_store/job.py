"""The steps of a labelling job before publishing; each step can be repeated without harm.

with lock_job(settings):
    unfinished = find_unfinished_run(settings)   settings of an interrupted run, to be resumed
    plan = plan_labels(settings)                 what is new; starts a run for it
    ...                                          the run is mined like any other
    publish_labels(settings)                     rows, gates and the new version (publish.py)
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path

import pyarrow as pa

from mining.config import ExecutionOptions, MineSettings
from mining.corpus import CORPUS_SCHEMA, iter_shards, read_summary
from mining.corpus.image_root import check_output_outside_images
from mining.corpus.shards import corpus_writer, write_shard, write_summary
from mining.errors import RunError, RunStoppedError
from mining.evaluation import read_ground_truth
from mining.label_store.changes import compare_snapshots
from mining.label_store.delta_table import LabelStore, Version
from mining.label_store.diff import SnapshotDiff
from mining.label_store.layout import JobLayout, install_job_model, label_card, mine_settings, run_name, run_number
from mining.label_store.publications import catch_up, record_job, refuse_missing_store
from mining.label_store.settings import LabelSettings
from mining.label_store.staleness import settings_that_matter
from mining.label_store.summaries import LabelPlan
from mining.models.card import ModelCard, read_card
from mining.runs import inputs, mining_job
from mining.runs.run import Run


@contextmanager
def lock_job(settings: LabelSettings, *, sweeps: bool = True) -> Iterator[None]:
    """Lock the job's runs for this process.

    Args:
        settings: The recipe.
        sweeps: Delete temporary files that a killed job left.

    Raises:
        RunStoppedError: Another job holds the lock.
    """
    check_output_outside_images(settings.runs, settings.corpus.images, "runs:")
    check_output_outside_images(settings.store, settings.corpus.images, "store:")
    layout = JobLayout(settings)
    with ExitStack() as stack:
        try:
            stack.enter_context(Run(layout.work).lock())
        except RunError:
            raise RunStoppedError(
                f"Another labelling job is using {settings.runs}; run the same command again when it has ended."
            ) from None
        if sweeps:
            layout.claim()
            layout.sweep()
        yield


def check_store(settings: LabelSettings, *, new_store: bool = False) -> None:
    """Check that the store that earlier jobs published to is still there.

    Args:
        settings: The recipe.
        new_store: Whether to start a new store where it is missing.

    Raises:
        StoreMissingError: It is missing.
        InputError: The folder for a new store holds other things.
    """
    store = LabelStore(settings.store)
    version = store.latest()
    if version.table is None:
        store.refuse_foreign_folder()
    refuse_missing_store(settings, version, new_store=new_store)
    catch_up(settings, version)


def find_unfinished_run(settings: LabelSettings) -> MineSettings | None:
    """Return the settings of an interrupted run of an earlier job, if it still is what the recipe asks for."""
    card = install_job_model(settings)
    for run in reversed(JobLayout(settings).run_directories()):
        if run.is_finished() or not run.corpus.exists():
            continue
        if _is_wanted(settings, card, run):
            current = mine_settings(settings, run.path)  # this machine may lack the device of the first start
            return run.settings.model_copy(
                update={name: getattr(current, name) for name in ExecutionOptions.model_fields}
            )
    return None


def _is_wanted(settings: LabelSettings, card: ModelCard, run: Run) -> bool:
    return (
        run.settings.images == settings.corpus.images
        and read_card(run.model).weights_sha256 == card.weights_sha256
        and settings_that_matter(run.settings) == settings_that_matter(settings.mine)
    )


def plan_labels(settings: LabelSettings) -> LabelPlan:
    """List the images, compare them with the last version, and start a run for those that must be mined.

    Raises:
        CorpusError: The images or labels cannot be used.
        ModelError: The model cannot be used.
        ScoringError: The ground truth cannot be used.
        StorageError: The store cannot be reached or the disk is full.
    """
    layout = JobLayout(settings)
    card = install_job_model(settings)
    if settings.truth is not None:
        read_ground_truth(settings.truth)  # a faulty file is reported before the images are mined, not after
    inputs.list_images(
        settings.corpus, settings.mine.shard_size, label_card(settings), settings.model, layout.listed, layout.hashes
    )
    version = LabelStore(settings.store).latest()
    with compare_snapshots(settings, version, card) as (diff, _):
        if not diff.tally.to_mine:
            return LabelPlan(None, asdict(diff.tally))
        run_settings = mine_settings(settings, layout.runs / _next_run_name(layout, version))
        _write_images_to_mine(layout.listed, diff, layout.todo, settings.mine.shard_size)
        mining_job.plan_mining(run_settings, layout.todo)
        record_job(Run(run_settings.out), settings, version)
        return LabelPlan(run_settings, asdict(diff.tally))


def _next_run_name(layout: JobLayout, version: Version) -> str:
    names = [run.path.name for run in layout.run_directories()]
    names += version.corpus(layout.name).get("published", [])
    numbers = (run_number(name, layout.name) for name in names)
    return run_name(layout.name, 1 + max((number for number in numbers if number is not None), default=0))


def _write_images_to_mine(listed: Path, diff: SnapshotDiff, out: Path, shard_size: int) -> None:
    """Write the rows of the listing that are to be mined as a corpus table of their own."""
    names = diff.to_mine()  # sorted, as the listing is
    next_name = next(names, None)
    pending: list[pa.Table] = []
    count = 0
    with corpus_writer(out) as writer:

        def write(tables: list[pa.Table], *, is_last: bool) -> list[pa.Table]:
            nonlocal count
            rest = pa.concat_tables(tables)
            while len(rest) >= shard_size or (is_last and len(rest)):
                shard, rest = rest.slice(0, shard_size), rest.slice(shard_size)
                ids = pa.array(range(count + 1, count + 1 + len(shard)), pa.int64())
                write_shard(writer, shard.set_column(0, CORPUS_SCHEMA.field(0), ids))
                count += len(shard)
            return [rest]

        for shard in iter_shards(listed):
            rows = []
            for row, name in enumerate(shard["file_name"].to_pylist()):
                if name == next_name:
                    rows.append(row)
                    next_name = next(names, None)
            if rows:
                pending = write([*pending, shard.take(pa.array(rows))], is_last=False)
        write(pending, is_last=True)
        summary = read_summary(listed)
        write_summary(writer, type(summary)(**{**asdict(summary), "images": count, "notes": []}))
