"""Progress bars of the functions."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Report = Callable[[int, int, str], None]


@contextmanager
def progress_bar(title: str, show: bool | None) -> Iterator[Report]:
    """Give a function (done, total, text) that moves a bar on stderr.

    Args:
        title: Text before the bar.
        show: Whether to show the bar; None shows it on a terminal and in a notebook.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    if not (show or (show is None and (sys.stderr.isatty() or console.is_jupyter))):
        yield _ignore
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, TextColumn("{task.fields[text]}"), console=console) as bar:
        task = bar.add_task(title, total=None, text="")

        def update(done: int, total: int, text: str) -> None:
            bar.update(task, completed=done, total=total, text=text)

        yield update


def _ignore(done: int, total: int, text: str) -> None:
    """Report nothing."""
