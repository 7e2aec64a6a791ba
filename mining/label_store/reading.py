"""Read a version of a label store as if it were a run directory."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from mining.corpus.image_root import check_output_outside_images
from mining.errors import InputError, did_you_mean
from mining.label_store.delta_table import LabelStore, Version
from mining.label_store.run_view import write_view
from mining.label_store.settings import VersionChoice, address
from mining.label_store.staged import staged_version_of
from mining.label_store.version_precision import precision_so_far
from mining.storage.folders import atomic_folder, refuse_occupied_folder

_HISTORY_COLUMNS = ("at", "tally", "corloc", "accepted", "gates")


@contextmanager
def version_as_run(where: str, choice: VersionChoice) -> Iterator[Path]:
    """Yield a run directory that holds a version of a label store; it is deleted when the block ends.

    Raises:
        InputError: There is no such version.
        StorageError: The store cannot be reached.
    """
    with TemporaryDirectory(prefix="boxmine-") as folder:
        run = Path(folder) / "run"
        _write_run(where, choice, run, run)
        yield run


def export_as_run(where: str, choice: VersionChoice, out: Path) -> None:
    """Write a version of a label store as the run directory `out`, completely or not at all.

    Raises:
        InputError: There is no such version, or `out` is not empty.
        StorageError: The store cannot be reached, or the disk refuses.
    """
    refuse_occupied_folder(out)
    check_output_outside_images(out, Path(_choose(where, choice)[2]["images"]))
    with atomic_folder(Path(os.path.abspath(out))) as temporary:
        _write_run(where, choice, temporary, out.resolve())


def choice_before(where: str, choice: VersionChoice) -> VersionChoice | None:
    """Return the last version before the chosen one that has other labels of its corpus; None for the first.

    Raises:
        InputError: There is no such version.
        StorageError: The store cannot be reached.
    """
    version, corpus, _ = _choose(where, choice)
    record = version.corpus(corpus)
    for older in LabelStore(where).records():
        before = older["corpora"].get(corpus)
        if older["version"] < version.number and before is not None and before != record:
            return VersionChoice(str(older["version"]), corpus, choice.images)
    return None


def _write_run(where: str, choice: VersionChoice, folder: Path, final: Path) -> None:
    version, corpus, record = _choose(where, choice)
    shown = {**record, "precision": precision_so_far(record)}
    write_view(folder, version.rows(corpus), f"{corpus}@{version.number}", shown, final)


def _choose(where: str, choice: VersionChoice) -> tuple[Version, str, dict[str, Any]]:
    """The version, the name of the corpus, and its record."""
    version = _open_version(where, choice.as_of)
    corpus = _choose_corpus(where, version, choice.corpus)
    record = version.corpus(corpus)
    if choice.images is not None:
        record["images"] = str(choice.images.resolve())
    return version, corpus, record


def _open_version(where: str, as_of: str | None) -> Version:
    if as_of is not None:
        return LabelStore(where).as_of(as_of)
    version = LabelStore(where).latest()
    if version.table is None:
        raise InputError(f"{where} holds no labels yet.")
    return version


def _choose_corpus(where: str, version: Version, corpus: str | None) -> str:
    names = sorted(version.record["corpora"])
    if corpus is None:
        if len(names) > 1:
            raise InputError(f"{where} holds several corpora; choose one with --corpus: {', '.join(names)}.")
        return str(names[0])
    if corpus not in names:
        raise InputError(f"{where} holds no corpus {corpus!r}: {did_you_mean(corpus, names)}")
    return corpus


def history(where: str, limit: int = 20) -> list[dict[str, Any]]:
    """Return the last versions, latest first.

    Returns:
        Dictionaries with version, at, corpus, images, boxes, tally, corloc, accepted, gates, restored, precision (see
        `mining.label_store.version_precision`; None where people judged none of the new boxes), and waiting: the
        version that is staged after this one (see `mining.label_store.staged`), None if there is none.
    """
    versions: list[dict[str, Any]] = []
    records = LabelStore(where).records()
    waiting = {name: staged_version_of(address(where), name, record) for name, record in records[0]["corpora"].items()}
    for version, before in zip(records, [*records[1:], {"corpora": {}}], strict=True):
        for name, record in version["corpora"].items():
            if record != before["corpora"].get(name):
                staged = waiting.pop(name, None)
                versions.append(
                    {
                        "version": version["version"],
                        "corpus": name,
                        **record["counts"],
                        **{column: record[column] for column in _HISTORY_COLUMNS},
                        "restored": record.get("restored"),
                        "precision": precision_so_far(record),
                        "waiting": None if staged is None else asdict(staged),
                    }
                )
    return versions[:limit]
