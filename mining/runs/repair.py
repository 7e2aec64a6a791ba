"""Find the damaged files of a run, and rebuild those that its parts still contain."""

from mining.errors import DamagedFileError
from mining.runs.event_log import log_event
from mining.runs.run import Run
from mining.storage.integrity import DIGESTS, MADE_FROM_PARTS, PARTS, damage_message, find_damaged_files


def reopen_if_damaged(run: Run) -> bool:
    """Reopen a finished run whose tables are damaged, so that they are merged again from its parts.

    Returns:
        Whether it was reopened.

    Raises:
        DamagedFileError: A damaged file cannot be rebuilt from the parts.
    """
    damaged = find_damaged_files(run.path)
    if not damaged:
        return False
    lost = [path for path in damaged if path.name not in MADE_FROM_PARTS or not (run.path / PARTS).is_dir()]
    if lost:
        raise DamagedFileError(damage_message(lost[0]))
    names = ", ".join(path.name for path in damaged)
    log_event(run.path, "rebuilding damaged tables", tables=names)
    reopen(run, f"{names} was damaged")
    return True


def reopen(run: Run, why: str) -> None:
    """Make a finished run unfinished; its tables get new digests when it is finished again."""
    run.update(state="stopped", failed=why, **{DIGESTS: {}})


def refuse_damage(run: Run) -> None:
    """Raise DamagedFileError if a file of a finished run is damaged or missing."""
    damaged = find_damaged_files(run.path)
    if damaged:
        raise DamagedFileError(damage_message(damaged[0]))
