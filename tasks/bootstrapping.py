"""Tasks of a bootstrap: train the detector of a round, judge its boxes, conclude."""

from mining.bootstrap import rounds
from mining.bootstrap.rounds import BootstrapResult
from mining.config.bootstrap import BootstrapSettings
from tasks.detectors import takes_several_devices, train_on_devices, without_loader_processes
from tasks.orchestration import report, step
from tasks.progress import Stage
from tasks.trainer import train_detector_of_round

check_boxes = step(name="check boxes")(rounds.check_boxes)


@step(name="train detector")
def train_on_run(settings: BootstrapSettings, number: int) -> int:
    """Train the detector of a round on the boxes of the round before; returns their number."""
    stage = Stage(f"detector {number}", settings.detector.epochs)

    def progress(done: int, total: int, text: str) -> None:
        stage.reach(done, total, text)

    if takes_several_devices(settings):
        return train_on_devices(train_detector_of_round, settings, str(number), progress)
    return rounds.train_on_run(without_loader_processes(settings), number, progress)


fuse_round = step(name="fuse boxes")(rounds.fuse_round)
judge_round = step(name="judge round")(rounds.judge_round)


@step(name="conclude")
def conclude(settings: BootstrapSettings, so_far: list[rounds.Round]) -> BootstrapResult | None:
    """Return the result if there is to be no further round, and show it."""
    result = rounds.conclude(settings, so_far)
    if result is not None:
        report(_show_rounds, result)
    return result


def _show_rounds(result: BootstrapResult) -> None:
    from prefect.artifacts import create_table_artifact

    rows = [
        {"round": one.number, "boxes": one.boxes, "better": one.is_better, "why": one.reason} for one in result.rounds
    ]
    create_table_artifact(rows, key="bootstrap", description=result.reason)
