"""Compare a job's listing with the store's last version and with the runs that are not published yet."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

from mining.corpus import iter_shards
from mining.errors import CorpusError
from mining.label_store.delta_table import Version
from mining.label_store.diff import PreviousImage, SnapshotDiff, open_diff, placeholder_hash
from mining.label_store.layout import JobLayout
from mining.label_store.settings import LabelSettings
from mining.label_store.staleness import changed_settings, settings_that_matter, staleness
from mining.models.card import ModelCard, read_card
from mining.runs.run import Run
from mining.runs.shard_files import part_outcomes

_CURRENT_COLUMNS = ["file_name", "content_hash", "labels", "split"]
_PREVIOUS_COLUMNS = ["file_name", "image_id", "content_hash", "labels", "split", "model_sha256", "settings_sha256"]


@contextmanager
def compare_snapshots(
    settings: LabelSettings, version: Version, card: ModelCard
) -> Iterator[tuple[SnapshotDiff, list[Run]]]:
    """Compare the listing with a version and with the unpublished runs of the same model.

    Yields:
        The comparison, and the runs by their number in it, latest first.

    Raises:
        CorpusError: The version has a corpus of this name whose images are entirely different ones.
    """
    layout = JobLayout(settings)
    record = version.corpus(settings.name)
    wanted = settings_that_matter(settings.mine)
    stale = staleness(card.weights_sha256, wanted, record.get("settings", {}))
    with open_diff(layout.diff, stale) as diff:
        diff.add_previous(_previous_images(version, settings.name))
        for shard in iter_shards(layout.listed):
            diff.add_current(zip(*(shard[name].to_pylist() for name in _CURRENT_COLUMNS), strict=True))
        runs = _unpublished_runs(layout, record, card)
        for number, run in enumerate(runs):
            diff.add_pending_run(number, _usable_images(run, wanted))
        diff.compare()
        _refuse_another_corpus(settings, record, diff)
        yield diff, runs


def _unpublished_runs(layout: JobLayout, record: dict[str, Any], card: ModelCard) -> list[Run]:
    """Finished runs of the model that no version was published from, latest first."""
    return [
        run
        for run in reversed(layout.run_directories())
        if run.path.name not in record.get("published", [])
        and run.is_finished()
        and read_card(run.model).weights_sha256 == card.weights_sha256
    ]


def _refuse_another_corpus(settings: LabelSettings, record: dict[str, Any], diff: SnapshotDiff) -> None:
    images = str(settings.corpus.images)
    if record.get("images", images) != images and diff.is_another_corpus():
        raise CorpusError(
            f"The corpus {settings.name!r} of {settings.store} was labelled from {record['images']}, and none of its "
            f"images is in {images}. Give these images another `name`, or they would replace that corpus."
        )


def _previous_images(version: Version, corpus: str) -> Iterator[PreviousImage]:
    last_id = None
    for batch in version.rows(corpus, _PREVIOUS_COLUMNS):
        for row in zip(*(batch[name].to_pylist() for name in _PREVIOUS_COLUMNS), strict=True):
            if row[1] != last_id:
                last_id = row[1]
                yield PreviousImage(*row)


def _usable_images(run: Run, wanted: dict[str, Any]) -> Iterator[tuple[str, list[str] | None, int]]:
    """Hash, labels and id of the run's images whose boxes are those that the wanted settings would give."""
    run_settings = settings_that_matter(run.settings)

    @lru_cache(maxsize=100_000)
    def is_stale(labels: tuple[str, ...] | None) -> bool:
        return bool(changed_settings(run_settings, wanted, labels))

    for number, shard in enumerate(iter_shards(run.corpus)):
        outcomes = part_outcomes(run.part(number)) or []
        replaced = {outcome.image_id for outcome in outcomes if outcome.replaced}
        columns = (shard[name].to_pylist() for name in ("file_name", "content_hash", "labels", "image_id"))
        for name, digest, labels, image_id in zip(*columns, strict=True):
            if image_id not in replaced and not is_stale(None if labels is None else tuple(labels)):
                yield placeholder_hash(name) if digest is None else digest, labels, image_id
