"""Work in other processes, which may be killed at a chosen moment, as if the power failed."""

import json
import multiprocessing
import os
import random
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

# one process imports everything once; the processes that do the work are forked from it
_processes = multiprocessing.get_context("forkserver")
_processes.set_forkserver_preload([
    "tests.faults.kill_injection", "mining.engine.miner", "mining.runs.mining_job", "mining.training.fit",
    "mining.label_store.publish", "mining.label_store.job", "flows.label", "flows.mine", "flows.bootstrap", "flows.prove",
    "mining.proof.page", "mining.detection.training", "tests.unit.engine.painting",
])  # fmt: skip
_CHANGES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.link", "sqlite3.connect"}
_ENTERED = ("publish", "write_part", "write_json", "merge_parts", "write_coco_json", "update", "save_model", "compare")


def run_in_process(
    function: Callable[..., None], *arguments: Any, kill_point: int | None = None, kill_after_s: float | None = None
) -> int:
    """Call a function in its own process.

    Args:
        function: Called with the arguments; both are pickled.
        kill_point: Kill the process before its n-th change to the disk, or entry into or return from a function
            that makes one.
        kill_after_s: Kill the process after so many seconds.

    Returns:
        The exit code: -9 where the process was killed.
    """
    process = _processes.Process(target=_run, args=(function, arguments, kill_point, kill_after_s))
    process.start()
    process.join(300)
    assert process.exitcode is not None, "the process hangs"
    return process.exitcode


def run_at_once(function: Callable[..., None], arguments: list[Any]) -> list[int | None]:
    """Call a function in several processes at the same time, once per argument; returns their exit codes."""
    processes = [_processes.Process(target=function, args=(argument,)) for argument in arguments]
    for process in processes:
        process.start()
    for process in processes:
        process.join(300)
    return [process.exitcode for process in processes]


def count_kill_points(function: Callable[..., None], *arguments: Any, count_file: Path) -> int:
    """Call a function in its own process to the end; returns how many kill points it has.

    Args:
        function: As for `run_in_process`.
        count_file: Where the process writes the number.
    """
    process = _processes.Process(target=_run_and_count, args=(function, arguments, count_file))
    process.start()
    process.join(300)
    assert process.exitcode == 0
    return int(json.loads(count_file.read_text()))


def name_kill_points(
    function: Callable[..., None], *arguments: Any, name: Callable[[], str], count_file: Path
) -> list[str]:
    """Call a function in its own process to the end; returns a name for each of its kill points.

    Args:
        function: As for `run_in_process`.
        name: Called at each kill point, for example to say in which step that is; pickled.
        count_file: Where the process writes the names.
    """
    process = _processes.Process(target=_run_and_name, args=(function, arguments, name, count_file))
    process.start()
    process.join(300)
    assert process.exitcode == 0
    return list(json.loads(count_file.read_text()))


def draw_kills(seed: int, kills: int, kill_points: int, seconds: float) -> list[dict[str, Any]]:
    """Draw so many kills as options of `run_in_process`: two of three at kill points, the third by the clock."""
    drawn = random.Random(seed)
    points = sorted(drawn.randrange(1, kill_points + 1) for _ in range(kills - kills // 3))
    options: list[dict[str, Any]] = [{"kill_point": point} for point in points]
    options += [{"kill_after_s": drawn.uniform(0, seconds)} for _ in range(kills // 3)]
    drawn.shuffle(options)
    return options


def _run(
    function: Callable[..., None], arguments: tuple[Any, ...], kill_point: int | None, kill_after_s: float | None
) -> None:
    if kill_point is not None:
        _observe_kill_points(lambda number: _kill_self() if number == kill_point else None)
    if kill_after_s is not None:
        timer = threading.Timer(kill_after_s, _kill_self)
        timer.daemon = True
        timer.start()
    function(*arguments)


def _kill_self() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _run_and_count(function: Callable[..., None], arguments: tuple[Any, ...], count_file: Path) -> None:
    latest = [0]

    def keep(number: int) -> None:
        latest[0] = number

    _observe_kill_points(keep)
    function(*arguments)
    count_file.write_text(json.dumps(latest[0]))


def _run_and_name(
    function: Callable[..., None], arguments: tuple[Any, ...], name: Callable[[], str], count_file: Path
) -> None:
    names: list[str] = []
    _observe_kill_points(lambda _: names.append(name()))
    function(*arguments)
    count_file.write_text(json.dumps(names))


def _observe_kill_points(callback: Callable[[int], None]) -> None:
    """Call back, with a running number, at each change to the disk and around functions that make some unseen."""
    lock, counter = threading.Lock(), [0]

    def count() -> None:
        with lock:
            counter[0] += 1
            number = counter[0]
        callback(number)

    def audit(event: str, arguments: tuple[Any, ...]) -> None:
        if event in _CHANGES or (event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)):
            count()

    def profile(frame: Any, event: str, _: Any) -> None:
        # Python does not see what Arrow and Delta write: the moments before and after stand for it
        if frame.f_code.co_name in _ENTERED and event in ("call", "return") and "mining" in frame.f_code.co_filename:
            count()

    sys.addaudithook(audit)
    sys.setprofile(profile)


def run_label(settings: str) -> None:
    """Run a labelling job with the localizers of tests/unit/engine/painting.py."""
    from flows.label import label
    from mining.label_store.settings import LabelSettings
    from tests.unit.engine.painting import list_painted

    with pytest.MonkeyPatch.context() as patch:
        list_painted(patch)
        label(LabelSettings.model_validate_json(settings))


def run_mine(settings: str) -> None:
    """Run `boxmine mine` with the same localizers."""
    from flows.mine import mine
    from mining.config import MineSettings
    from tests.unit.engine.painting import list_painted

    with pytest.MonkeyPatch.context() as patch:
        list_painted(patch)
        mine(MineSettings.model_validate_json(settings))


def run_train(settings: str) -> None:
    """Run `boxmine train` with the tiny backbone."""
    from flows.train import train
    from mining.config import TrainSettings
    from tests.factories import register_tiny_backbone

    with pytest.MonkeyPatch.context() as patch:
        register_tiny_backbone(patch)
        train(TrainSettings.model_validate_json(settings))


def run_bootstrap(settings: str) -> None:
    """Run `boxmine bootstrap` with the tiny backbone."""
    from flows.bootstrap import bootstrap
    from mining.config.bootstrap import BootstrapSettings
    from tests.factories import register_tiny_backbone

    with pytest.MonkeyPatch.context() as patch:
        register_tiny_backbone(patch)
        bootstrap(BootstrapSettings.model_validate_json(settings))


def run_prove(settings: str) -> None:
    """Run `boxmine prove` with the tiny backbone."""
    from flows.prove import prove
    from mining.config.proof import ProofSettings
    from tests.factories import register_tiny_backbone

    with pytest.MonkeyPatch.context() as patch:
        register_tiny_backbone(patch)
        prove(ProofSettings.model_validate_json(settings))
