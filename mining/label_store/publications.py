"""Records of which runs were published to which store, so that a missing store is noticed.

A run's record says for which store its labels were made (`label_job`), in which versions of which stores they were
published (`published`), and which version is being written with them (`publishing`).
"""

import json
from collections.abc import Sequence
from typing import Any

from mining.errors import StoreMissingError
from mining.label_store.delta_table import Version
from mining.label_store.layout import JobLayout
from mining.label_store.settings import LabelSettings
from mining.redaction import redact
from mining.runs.run import Run
from mining.storage.provenance import utc_now


def record_job(run: Run, settings: LabelSettings, version: Version) -> None:
    """Record for which store the run is mined."""
    run.update(label_job={"store": redact(settings.store), "store_id": version.store_id, "corpus": settings.name})


def record_intention(runs: Sequence[Run], settings: LabelSettings, base: Version) -> None:
    """Record that the version after `base` is being written from these runs."""
    intention = {"store": redact(settings.store), "store_id": base.store_id, "version": base.number + 1}
    for run in runs:
        run.sweep_records()
        run.update(publishing=intention)


def record_publication(runs: Sequence[Run], settings: LabelSettings, version: Version) -> None:
    """Record that these runs are published: this version, or an earlier one, contains their labels."""
    publication = {
        "store": redact(settings.store),
        "store_id": version.store_id,
        "corpus": settings.name,
        "version": version.number,
    }
    for run in runs:
        run.sweep_records()
        run.update(published=[*run.record.get("published", []), {**publication, "at": utc_now()}], publishing=None)


def catch_up(settings: LabelSettings, version: Version) -> None:
    """Record publications of jobs that were killed before they could, and of earlier versions of boxmine."""
    names = set(version.corpus(settings.name).get("published", []))
    runs = [run for run in JobLayout(settings).run_directories() if run.path.name in names]
    record_publication([run for run in runs if not _is_recorded(run.record, version)], settings, version)


def is_unpublished(record: dict[str, Any], settings: LabelSettings, version: Version) -> bool:
    """Whether a run was certainly never published, in this store or in another.

    Args:
        record: Record of a run that `version` does not list as published.
        settings: The recipe.
        version: The last version of the store.

    Returns:
        False also if it cannot be known: the run was made for another store, or its record does not name one.
    """
    job, intention = record.get("label_job"), record.get("publishing")
    if record.get("published") or job is None:
        return False
    if intention is not None and (intention["store_id"] is None or intention["store_id"] != version.store_id):
        return False
    if job["store_id"] is not None:
        return bool(job["store_id"] == version.store_id)
    return bool(job["store"] == redact(settings.store))


def refuse_missing_store(settings: LabelSettings, version: Version, *, new_store: bool = False) -> None:
    """Raise StoreMissingError if earlier jobs have published and the store has no version of the corpus.

    A store that is not mounted looks like a new one; its versions would start again at 0.

    Args:
        settings: The recipe.
        version: The last version of the store.
        new_store: Whether to start a new store on purpose.
    """
    if new_store or version.corpus(settings.name):
        return
    last = last_publication(settings)
    if last is None:
        return
    raise StoreMissingError(
        f"{settings.store} holds no labels of {settings.name!r}, but earlier jobs with {settings.runs} published them: "
        f"version {last['version']} of {last['store']}. Nothing was mined or published. If the store is not mounted or "
        "its address has changed, mount it or correct `store`; to start a new store on purpose, add --new-store."
    )


def last_publication(settings: LabelSettings) -> dict[str, Any] | None:
    """Return store and version of the last publication that the job's folder or its runs recorded."""
    layout = JobLayout(settings)
    try:
        last = json.loads(layout.record.read_text(encoding="utf-8"))
        if last.get("published") is not None:
            return dict(last["published"])
        if last["state"] == "published":  # written by an earlier version of boxmine
            return {"store": redact(last["store"]), "version": last["version"]}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        pass  # the runs have records, too
    publications = [one for run in layout.run_directories() for one in run.record.get("published", [])]
    return max(publications, key=lambda publication: str(publication["at"]), default=None)


def _is_recorded(record: dict[str, Any], version: Version) -> bool:
    return any(publication["store_id"] == version.store_id for publication in record.get("published", []))
