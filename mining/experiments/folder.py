"""The folder of an experiment: its lock, and which of the runs in it are its own."""

from collections.abc import Iterator
from contextlib import contextmanager

from mining.errors import RunError
from mining.experiments.cells import Cell
from mining.experiments.settings import ExperimentSettings
from mining.runs.run import Run
from mining.storage.locks import lock_folder
from mining.storage.ownership import delete_temporaries, foreign_entries, mark_folder, token_of

_KIND = "experiment"
_TABLES = ("table.md", "table.json")


@contextmanager
def lock_experiment(settings: ExperimentSettings) -> Iterator[None]:
    """Lock the experiment's folder and mark it as an experiment.

    Raises:
        RunError: Another process holds the lock, or the folder holds other things.
    """
    refuse_foreign_folder(settings)
    with lock_folder(settings.out):
        refuse_foreign_folder(settings)
        mark_folder(settings.out, _KIND)
        delete_temporaries(settings.out, [f"{corpus}/figures" for corpus in settings.corpora])
        yield


def refuse_foreign_folder(settings: ExperimentSettings) -> None:
    """Raise RunError unless the folder is new, empty, or belongs to an experiment."""
    out = settings.out
    if out.is_file():
        raise RunError(f"--out {out} is a file; give a folder.")
    if token_of(out, _KIND) is not None:
        return
    foreign = foreign_entries(out)
    # earlier versions left no mark: their folders hold the figures of a corpus, and otherwise only tables
    measured = [name for name in settings.corpora if (out / name / "figures").is_dir()]
    if foreign and not (measured and set(foreign) <= {*_TABLES, *settings.corpora}):
        raise RunError(
            f"--out {out} holds other things (e.g. {foreign[0]!r}) and is not an experiment; give a new or an empty "
            "folder. Nothing in it was touched."
        )


def clear_run(cell: Cell, token: str | None) -> None:
    """Delete the run of an interrupted measurement, because its maps must all be measured in one pass.

    The caller holds the lock of the run.

    Args:
        cell: The cell.
        token: Token of the experiment.

    Raises:
        RunError: The run does not belong to this experiment.
    """
    run = Run(cell.mine.out)
    if not run.has_started():
        return  # other files there are refused when the run is started
    record = run.record
    config = cell.mine.identity()
    is_of_this_cell = all(record["config"].get(name) == value for name, value in config.items())
    if not is_of_this_cell and (token is None or record.get("experiment") != token):
        raise RunError(
            f"{run.path} holds a run that this experiment did not mine. Move it away, or give the experiment another "
            "--out."
        )
    run.discard()
