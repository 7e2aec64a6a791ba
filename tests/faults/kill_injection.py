"""Work in processes of their own, which die at a chosen moment as if somebody had pulled the plug."""

import json
import multiprocessing
import os
import random
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

# one process imports everything once; those that do the work are forked from it
_processes = multiprocessing.get_context("forkserver")
_processes.set_forkserver_preload(["tests.faults.kill_injection", "mining.engine.miner", "mining.runs.mining_job", "mining.training.fit", "mining.label_store.publish", "mining.label_store.job", "flows.label", "flows.mine", "tests.unit.engine.painting"])  # fmt: skip
_CHANGES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.link", "sqlite3.connect"}
_ENTERED = ("publish", "write_part", "write_json", "merge_parts", "write_coco_json", "update", "save_model", "compare")


def work(do: Callable[..., None], *arguments: Any, dies_at: int | None = None, dies_after: float | None = None) -> int:
    """Do it in a process of its own; gives its exit code, -9 where it was killed.

    dies_at: kill it before its n-th change to the disk or entry into a function that makes one. dies_after: seconds.
    """
    process = _processes.Process(target=_worked, args=(do, arguments, dies_at, dies_after))
    process.start()
    process.join(300)
    assert process.exitcode is not None, "it hangs"
    return process.exitcode


def moments(do: Callable[..., None], *arguments: Any, told: Path) -> int:
    """How many moments to die at there are; the work is done. told: a file to say it through."""
    process = _processes.Process(target=_counted, args=(do, arguments, told))
    process.start()
    process.join(300)
    assert process.exitcode == 0
    return int(json.loads(told.read_text()))


def at_random(seed: int, kills: int, upto: int, seconds: float) -> list[dict[str, Any]]:
    """So many deaths: two of three at moments, the third by the clock."""
    drawn = random.Random(seed)
    by_moment = sorted(drawn.randrange(1, upto + 1) for _ in range(kills - kills // 3))
    deaths: list[dict[str, Any]] = [{"dies_at": moment} for moment in by_moment]
    deaths += [{"dies_after": drawn.uniform(0, seconds)} for _ in range(kills // 3)]
    drawn.shuffle(deaths)
    return deaths


def _worked(do: Callable[..., None], arguments: tuple[Any, ...], dies_at: int | None, dies_after: float | None) -> None:
    if dies_at is not None:
        _count(lambda number: os.kill(os.getpid(), signal.SIGKILL) if number == dies_at else None)
    if dies_after is not None:
        started = time.monotonic()
        threading.Thread(target=_wait_and_die, args=(started + dies_after,), daemon=True).start()
    do(*arguments)


def _wait_and_die(moment: float) -> None:
    time.sleep(max(0.0, moment - time.monotonic()))
    os.kill(os.getpid(), signal.SIGKILL)


def _counted(do: Callable[..., None], arguments: tuple[Any, ...], told: Path) -> None:
    seen = [0]

    def keep(number: int) -> None:
        seen[0] = number

    _count(keep)
    do(*arguments)
    told.write_text(json.dumps(seen[0]))


def _count(notify: Callable[[int], None]) -> None:
    """Have each change to the disk that Python makes, and each entry into what makes others, told by its number."""
    lock, counter = threading.Lock(), [0]

    def one_more() -> None:
        with lock:
            counter[0] += 1
            number = counter[0]
        notify(number)

    def audit(event: str, arguments: tuple[Any, ...]) -> None:
        if event in _CHANGES or (event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)):
            one_more()

    def profile(frame: Any, event: str, _: Any) -> None:
        # what Arrow and Delta write Python does not see: the moments before and after stand for them
        if frame.f_code.co_name in _ENTERED and event in ("call", "return") and "mining" in frame.f_code.co_filename:
            one_more()

    sys.addaudithook(audit)
    sys.setprofile(profile)


def label_once(settings: str) -> None:
    """A labelling job with the localizers of tests/unit/engine/painting.py."""
    from flows.label import label
    from mining.label_store.settings import LabelSettings
    from tests.unit.engine.painting import list_painted

    with pytest.MonkeyPatch.context() as patch:
        list_painted(patch)
        label(LabelSettings.model_validate_json(settings))


def mine_once(settings: str) -> None:
    """`boxmine mine` with them."""
    from flows.mine import mine
    from mining.config import MineSettings
    from tests.unit.engine.painting import list_painted

    with pytest.MonkeyPatch.context() as patch:
        list_painted(patch)
        mine(MineSettings.model_validate_json(settings))


def train_once(settings: str) -> None:
    """`boxmine train` with the tiny backbone."""
    from flows.train import train
    from mining.config import TrainSettings
    from tests.factories import register_tiny_backbone

    with pytest.MonkeyPatch.context() as patch:
        register_tiny_backbone(patch)
        train(TrainSettings.model_validate_json(settings))
