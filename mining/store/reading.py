"""A published version, for whoever reads runs."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from mining.errors import InputError, did_you_mean
from mining.store.settings import is_remote
from mining.store.table import LabelStore, Version
from mining.store.view import write_view


def is_store(where: str) -> bool:
    """Whether this names a label store rather than a run directory."""
    return is_remote(where) or (Path(where) / "_delta_log").is_dir()


@contextmanager
def version_as_run(
    where: str, as_of: str | None = None, corpus: str | None = None, images: Path | None = None, out: Path | None = None
) -> Iterator[Path]:
    """A version of a label store as a run directory, which goes when the block ends; with `out` it stays there.

    as_of: a version's number or a time; None = the last one. corpus: its name, where the store holds several.
    images: where its images lie here, if not where they were labelled. Raises InputError, StorageError.
    """
    version = _found(where, as_of)
    name = _corpus_of(where, version, corpus)
    record = version.corpus(name)
    if images is not None:
        record["images"] = str(images.resolve())
    with TemporaryDirectory(prefix="boxmine-") as folder:
        run = Path(folder) / name if out is None else out
        if out is not None and out.exists() and any(out.iterdir()):
            raise InputError(f"{out} is there already and not empty; give another --out.")
        write_view(run, version.rows(name), f"{name}@{version.number}", record)
        yield run


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
    """The last versions, the latest first: version, at, corpus, images, boxes, what was done, CorLoc, accepted."""
    found = []
    records = LabelStore(where).records()
    for one, before in zip(records, [*records[1:], {"corpora": {}}], strict=True):
        for name, record in one["corpora"].items():
            if record != before["corpora"].get(name):
                found.append({"version": one["version"], "corpus": name, **record["counts"], **_kept(record)})
    return found[:limit]


def _kept(record: dict[str, Any]) -> dict[str, Any]:
    return {name: record[name] for name in ("at", "tally", "corloc", "accepted", "gates")}
