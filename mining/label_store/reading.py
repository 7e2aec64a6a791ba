"""A published version, for whoever reads runs."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from mining.corpus.image_root import check_output_outside_images
from mining.errors import InputError, did_you_mean
from mining.export.job import refuse_taken
from mining.label_store.delta_table import LabelStore, Version
from mining.label_store.run_view import write_view
from mining.label_store.settings import address, is_remote
from mining.label_store.staged import staged_version_of
from mining.storage.folders import atomic_folder


def is_store(where: str) -> bool:
    """Whether this names a label store rather than a run directory."""
    return is_remote(where) or (Path(where) / "_delta_log").is_dir()


class VersionChoice(NamedTuple):
    """Which version of a label store.

    as_of: its number or a time; None = the last one. corpus: its name, where the store holds several. images: where
    its images lie here, if not where they were labelled.
    """

    as_of: str | None = None
    corpus: str | None = None
    images: Path | None = None


@contextmanager
def version_as_run(where: str, choice: VersionChoice) -> Iterator[Path]:
    """A version of a label store as a run directory, which goes when the block ends.

    Raises InputError, StorageError.
    """
    with TemporaryDirectory(prefix="boxmine-") as folder:
        yield _laid_out(where, choice, Path(folder) / "run", Path(folder) / "run")


def export_as_run(where: str, choice: VersionChoice, out: Path) -> None:
    """Write a version of a label store as the run directory `out`, which appears complete or not at all.

    Raises InputError, also where `out` is taken, and StorageError.
    """
    refuse_taken(out)
    check_output_outside_images(out, Path(_chosen(where, choice)[2]["images"]))
    with atomic_folder(Path(os.path.abspath(out))) as temporary:
        _laid_out(where, choice, temporary, out.resolve())


def _laid_out(where: str, choice: VersionChoice, folder: Path, name: Path) -> Path:
    version, corpus, record = _chosen(where, choice)
    write_view(folder, version.rows(corpus), f"{corpus}@{version.number}", record, name)
    return folder


def _chosen(where: str, choice: VersionChoice) -> tuple[Version, str, dict[str, Any]]:
    """The version, the corpus' name and its record there."""
    version = _found(where, choice.as_of)
    corpus = _corpus_of(where, version, choice.corpus)
    record = version.corpus(corpus)
    if choice.images is not None:
        record["images"] = str(choice.images.resolve())
    return version, corpus, record


def _found(where: str, as_of: str | None) -> Version:
    if as_of is not None:
        return LabelStore(where).as_of(as_of)
    version = LabelStore(where).latest()
    if version.table is None:
        raise InputError(f"{where} holds no labels yet.")
    return version


def _corpus_of(where: str, version: Version, corpus: str | None) -> str:
    names = sorted(version.record["corpora"])
    if corpus is None:
        if len(names) > 1:
            raise InputError(f"{where} holds several corpora; say which by --corpus: {', '.join(names)}.")
        return str(names[0])
    if corpus not in names:
        raise InputError(f"{where} holds no corpus {corpus!r}: {did_you_mean(corpus, names)}")
    return corpus


def history(where: str, limit: int = 20) -> list[dict[str, Any]]:
    """The last versions, the latest first: version, at, corpus, images, boxes, what was done, CorLoc, accepted.

    waiting: of a corpus' last version the one that is staged after it, see `mining.label_store.staged`; else None.
    """
    found: list[dict[str, Any]] = []
    records = LabelStore(where).records()
    waiting = {name: staged_version_of(address(where), name, record) for name, record in records[0]["corpora"].items()}
    for one, before in zip(records, [*records[1:], {"corpora": {}}], strict=True):
        for name, record in one["corpora"].items():
            if record != before["corpora"].get(name):
                staged = waiting.pop(name, None)
                found.append(
                    {"version": one["version"], "corpus": name, **record["counts"], **_kept(record)}
                    | {"waiting": None if staged is None else asdict(staged)}
                )
    return found[:limit]


def _kept(record: dict[str, Any]) -> dict[str, Any]:
    return {name: record[name] for name in ("at", "tally", "corloc", "accepted", "gates")} | {
        "restored": record.get("restored")
    }
