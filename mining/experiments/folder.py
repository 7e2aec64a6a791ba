"""The folder of an experiment, and the runs in it that are its own."""

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
def hold_experiment(settings: ExperimentSettings) -> Iterator[None]:
    """Keep other experiments off the folder, and mark it as this one's.

    Raises RunError while another process works on it, and where it holds other things.
    """
    refuse_foreign_folder(settings)
    with lock_folder(settings.out):
        refuse_foreign_folder(settings)
        mark_folder(settings.out, _KIND)
        delete_temporaries(settings.out, [f"{corpus}/figures" for corpus in settings.corpora])
        yield


def refuse_foreign_folder(settings: ExperimentSettings) -> None:
    """Raise RunError where `out` is neither new nor empty nor an experiment's."""
    out = settings.out
    if out.is_file():
        raise RunError(f"--out {out} is a file; give a folder.")
    if token_of(out, _KIND) is not None:
        return
    foreign = foreign_entries(out)
    # earlier versions left no mark: theirs have figures of a corpus, and nothing but tables beside them
    measured = [name for name in settings.corpora if (out / name / "figures").is_dir()]
    if foreign and not (measured and set(foreign) <= {*_TABLES, *settings.corpora}):
        raise RunError(
            f"--out {out} holds other things (e.g. {foreign[0]!r}) and is no experiment; give a new or an empty "
            "folder. Nothing in it was touched."
        )


def clear_run(cell: Cell, token: str | None) -> None:
    """Delete what an earlier try at the cell has mined: half a run has not shown all its maps.

    token: of the experiment that the cell belongs to. The caller has the run locked. Raises RunError where the run is
    another one's.
    """
    run = Run(cell.mine.out)
    if not run.has_started():
        return  # what else may lie there is refused when the run is opened
    record = run.record
    config = cell.mine.identity()
    is_of_this_cell = all(record["config"].get(name) == value for name, value in config.items())
    if not is_of_this_cell and (token is None or record.get("experiment") != token):
        raise RunError(
            f"{run.path} holds a run that this experiment did not mine. Move it away, or give the experiment another "
            "--out."
        )
    run.discard()
