"""A labelling job, step by step; each step can be done again without harm.

with held(settings):
    left = left_over(settings)       a run that was stopped, to be carried on
    plan = plan_labels(settings)     what is new; opens a run for it
    ...                              the run is mined as any other
    publish_labels(settings)         rows, gates, the new version
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path

import pyarrow as pa

from mining.config import ExecutionOptions, MineSettings
from mining.corpus import CORPUS_SCHEMA, iter_shards, read_summary
from mining.corpus.output_folders import refuse_inside_images
from mining.corpus.shards import corpus_writer, write_shard, write_summary
from mining.errors import RunError, RunStoppedError
from mining.evaluation import read_truth
from mining.label_store.changes import compared
from mining.label_store.delta_table import LabelStore
from mining.label_store.diff import SnapshotDiff
from mining.label_store.layout import JobLayout, mine_settings, model_of, run_name, run_number
from mining.label_store.publications import catch_up, record_job, refuse_missing_store
from mining.label_store.settings import LabelSettings
from mining.label_store.staleness import settings_that_matter
from mining.label_store.summaries import LabelPlan
from mining.models.card import ModelCard, read_card
from mining.runs import inputs, mining_job
from mining.runs.run import Run


@contextmanager
def lock_job(settings: LabelSettings, *, sweeps: bool = True) -> Iterator[None]:
    """Keep other jobs off the same runs. sweeps: delete what a killed one left half written.

    Raises RunStoppedError while another one works on them.
    """
    refuse_inside_images(settings.runs, settings.corpus.images, "runs:")
    refuse_inside_images(settings.store, settings.corpus.images, "store:")
    places = JobLayout(settings)
    with ExitStack() as stack:
        try:
            stack.enter_context(Run(places.work).lock())
        except RunError:
            raise RunStoppedError(
                f"Another labelling job works on {settings.runs}; give the command again when it is done."
            ) from None
        if sweeps:
            places.claim()
            places.sweep()
        yield


def check_store(settings: LabelSettings, *, new_store: bool = False) -> None:
    """Raise StoreMissingError where the store is gone that earlier jobs published to, InputError for a foreign folder.

    new_store: a person wants a new one.
    """
    store = LabelStore(settings.store)
    version = store.latest()
    if version.table is None:
        store.refuse_foreign_folder()
    refuse_missing_store(settings, version, new_store=new_store)
    catch_up(settings, version)


def find_unfinished_run(settings: LabelSettings) -> MineSettings | None:
    """The settings of a run of an earlier job that was stopped, where it is still what is wanted."""
    card = model_of(settings)
    for run in reversed(JobLayout(settings).run_directories()):
        if run.is_finished() or not run.corpus.exists():
            continue
        its = run.settings
        if _is_wanted(settings, card, run, its):
            here = mine_settings(settings, run.path)  # another machine may lack the device
            return its.model_copy(update={name: getattr(here, name) for name in ExecutionOptions.model_fields})
    return None


def _is_wanted(settings: LabelSettings, card: ModelCard, run: Run, its: MineSettings) -> bool:
    return (
        its.images == settings.corpus.images
        and read_card(run.model).weights_sha256 == card.weights_sha256
        and settings_that_matter(its) == settings_that_matter(settings.mine)
    )


def plan_labels(settings: LabelSettings) -> LabelPlan:
    """List the images, hold them against the last version, and open a run for what must be mined.

    Raises CorpusError, ModelError, ScoringError, StorageError.
    """
    places = JobLayout(settings)
    card = model_of(settings)
    if settings.truth is not None:
        read_truth(settings.truth)  # said before the images are mined, not after
    inputs.list_images(settings.corpus, settings.mine.shard_size, card, settings.model, places.listed, places.hashes)
    version = LabelStore(settings.store).latest()
    with compared(settings, version, card) as (book, _):
        tally = book.tally
        if not tally.to_mine:
            return LabelPlan(None, asdict(tally))
        numbers = [run_number(run.path.name, places.name) for run in places.run_directories()]
        numbers += [run_number(run, places.name) for run in version.corpus(places.name).get("published", [])]
        number = 1 + max((one for one in numbers if one is not None), default=0)
        out = places.runs / run_name(places.name, number)
        _write_todo(places.listed, book, places.todo, settings.mine.shard_size)
        wanted = mine_settings(settings, out)
        mining_job.plan_mining(wanted, places.todo)
        record_job(Run(out), settings, version)
        return LabelPlan(wanted, asdict(tally))


def _write_todo(listed: Path, book: SnapshotDiff, out: Path, shard_size: int) -> None:
    """The rows of the listing that are to be mined, as a corpus table of its own."""
    wanted = book.to_mine()
    following = next(wanted, None)
    waiting: list[pa.Table] = []
    count = 0
    with corpus_writer(out) as writer:

        def write(rows: list[pa.Table], *, all_of_them: bool) -> list[pa.Table]:
            nonlocal count
            together = pa.concat_tables(rows)
            while len(together) >= shard_size or (all_of_them and len(together)):
                shard, together = together.slice(0, shard_size), together.slice(shard_size)
                ids = pa.array(range(count + 1, count + 1 + len(shard)), pa.int64())
                write_shard(writer, shard.set_column(0, CORPUS_SCHEMA.field(0), ids))
                count += len(shard)
            return [together]

        for shard in iter_shards(listed):
            rows = []
            for row, name in enumerate(shard["file_name"].to_pylist()):
                if name == following:
                    rows.append(row)
                    following = next(wanted, None)
            if rows:
                waiting = write([*waiting, shard.take(pa.array(rows))], all_of_them=False)
        write(waiting, all_of_them=True)
        summary = read_summary(listed)
        write_summary(writer, type(summary)(**{**asdict(summary), "images": count, "notes": []}))
