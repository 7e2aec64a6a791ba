"""The ledger of a job: its listing against the last version and the runs that nobody published yet."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

from mining.corpus import iter_shards
from mining.errors import CorpusError
from mining.label_store.delta_table import Version
from mining.label_store.diff import PreviousImage, SnapshotDiff, ledger, unread
from mining.label_store.layout import JobLayout
from mining.label_store.settings import LabelSettings
from mining.label_store.staleness import differences, settings_that_matter, staleness
from mining.models.card import ModelCard, read_card
from mining.runs.run import Run
from mining.runs.shard_files import part_outcomes

_LISTED_COLUMNS = ["file_name", "content_hash", "labels", "split"]
_HELD_COLUMNS = ["file_name", "image_id", "content_hash", "labels", "split", "model_sha256", "settings_sha256"]


@contextmanager
def compared(settings: LabelSettings, version: Version, card: ModelCard) -> Iterator[tuple[SnapshotDiff, list[Run]]]:
    """The ledger of the listing against the version and the runs that nobody published, which come with it.

    Raises CorpusError where the version's images of that name are others altogether.
    """
    places = JobLayout(settings)
    record = version.corpus(settings.name)
    now_settings = settings_that_matter(settings.mine)
    stale = staleness(card.weights_sha256, now_settings, record.get("settings", {}))
    with ledger(places.ledger, stale) as book:
        book.add_previous(_held(version, settings.name))
        for shard in iter_shards(places.listed):
            book.add_current(zip(*(shard[name].to_pylist() for name in _LISTED_COLUMNS), strict=True))
        runs = [
            run
            for run in reversed(places.run_directories())
            if run.path.name not in record.get("published", [])
            and run.is_finished()
            and read_card(run.model).weights_sha256 == card.weights_sha256
        ]
        for number, run in enumerate(runs):
            book.add_pending_run(number, _offered(run, now_settings))
        book.compare()
        if (
            record.get("images", str(settings.corpus.images)) != str(settings.corpus.images)
            and book.is_another_corpus()
        ):
            raise CorpusError(
                f"What {settings.store} has as {settings.name!r} is of {record['images']}, and none of those images is "
                f"in {settings.corpus.images}. Give these another `name`, or they would take the others' place."
            )
        yield book, runs


def _held(version: Version, corpus: str) -> Iterator[PreviousImage]:
    last = None
    for batch in version.rows(corpus, _HELD_COLUMNS):
        for row in zip(*(batch[name].to_pylist() for name in _HELD_COLUMNS), strict=True):
            if row[1] != last:
                last = row[1]
                yield PreviousImage(*row)


def _offered(run: Run, wanted: dict[str, Any]) -> Iterator[tuple[str, list[str] | None, int]]:
    """Hash, labels and id of the run's images whose boxes are what the settings wanted would give."""
    its = settings_that_matter(run.settings)

    @lru_cache(maxsize=100_000)
    def is_stale(labels: tuple[str, ...] | None) -> bool:
        return bool(differences(its, wanted, labels))

    for number, shard in enumerate(iter_shards(run.corpus)):
        outcomes = part_outcomes(run.part(number)) or []
        replaced = {one.image_id for one in outcomes if one.replaced}
        columns = (shard[name].to_pylist() for name in ("file_name", "content_hash", "labels", "image_id"))
        for name, digest, labels, image_id in zip(*columns, strict=True):
            if image_id not in replaced and not is_stale(None if labels is None else tuple(labels)):
                yield unread(name) if digest is None else digest, labels, image_id
