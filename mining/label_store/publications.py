"""What runs and jobs record of the stores they published to, so that a store that is gone is noticed.

A run's record says for which store its labels were made (`label_job`), in which versions of which stores they were
published (`published`), and which version is just being written with them (`publishing`).
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
    """Record for which store the run's labels are made."""
    run.update(label_job={"store": redact(settings.store), "store_id": version.store_id, "corpus": settings.name})


def record_intention(runs: Sequence[Run], settings: LabelSettings, base: Version) -> None:
    """Record that the version after `base` is being written with labels of these runs."""
    intention = {"store": redact(settings.store), "store_id": base.store_id, "version": base.number + 1}
    for run in runs:
        run.sweep_records()
        run.update(publishing=intention)


def record_publication(runs: Sequence[Run], settings: LabelSettings, version: Version) -> None:
    """Record that labels of these runs are in the store, from this version on at the latest."""
    made = {
        "store": redact(settings.store),
        "store_id": version.store_id,
        "corpus": settings.name,
        "version": version.number,
    }
    for run in runs:
        run.sweep_records()
        run.update(published=[*run.record.get("published", []), {**made, "at": utc_now()}], publishing=None)


def catch_up(settings: LabelSettings, version: Version) -> None:
    """Record the publications of jobs that were killed before they could, and those of earlier versions of boxmine."""
    names = set(version.corpus(settings.name).get("published", []))
    runs = [run for run in JobLayout(settings).run_directories() if run.path.name in names]
    record_publication([run for run in runs if not _is_recorded(run.record, version)], settings, version)


def is_unpublished(record: dict[str, Any], settings: LabelSettings, version: Version) -> bool:
    """Whether a run that this version's list does not name was surely never published, there or elsewhere.

    record: the run's. version: the store's last one. False also where that cannot be known: the labels were made for
    another store, or the record does not say for which.
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
    """Raise StoreMissingError where earlier jobs of these runs have published and the store has nothing of it.

    A store that is not mounted looks like one that was never there, and a new one would begin at version 0.
    version: the store's last one. new_store: a person wants a new one.
    """
    if new_store or version.corpus(settings.name):
        return
    last = last_publication(settings)
    if last is None:
        return
    raise StoreMissingError(
        f"{settings.store} holds no labels of {settings.name!r}, but earlier jobs with {settings.runs} published them: "
        f"version {last['version']} of {last['store']}. Nothing was mined or published. If the store is not mounted or "
        "its address has changed, mount it or correct `store`; to begin a new store on purpose, add --new-store."
    )


def last_publication(settings: LabelSettings) -> dict[str, Any] | None:
    """Store and version of the last publication that the job's folder or its runs know of."""
    places = JobLayout(settings)
    try:
        last = json.loads(places.record.read_text(encoding="utf-8"))
        if last.get("published") is not None:
            return dict(last["published"])
        if last["state"] == "published":  # of an earlier version of boxmine
            return {"store": redact(last["store"]), "version": last["version"]}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        pass  # the runs know, too
    found = [one for run in places.run_directories() for one in run.record.get("published", [])]
    return max(found, key=lambda one: str(one["at"]), default=None)


def _is_recorded(record: dict[str, Any], version: Version) -> bool:
    return any(one["store_id"] == version.store_id for one in record.get("published", []))
