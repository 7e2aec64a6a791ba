"""From images with class names to a detector: boxes from labels, then rounds of a detector that learns from them."""

from flows.mine import mine
from flows.run import run
from mining.bootstrap.rounds import BootstrapResult, Round
from mining.config import ScoreSettings
from mining.config.bootstrap import BootstrapSettings
from tasks.bootstrapping import check_boxes, conclude, fuse_round, judge_round, train_on_run
from tasks.fusing import fuse_runs
from tasks.reporting import write_report
from tasks.scoring import score_boxes


def bootstrap(settings: BootstrapSettings) -> BootstrapResult:
    """Mine with a localizer; then train a detector on the boxes and mine with it, as long as that makes them better."""
    check_boxes(settings)
    localizers = settings.localizer_runs()
    for localizer in localizers:
        run(localizer)
    if len(localizers) > 1:
        fuse_runs([localizer.out for localizer in localizers], settings.run_of(0))
        _show(settings, 0)
    rounds: list[Round] = []
    while True:
        number = len(rounds) + 1
        learned_from = train_on_run(settings, number)
        mine(settings.mine_settings(number))
        fuse_round(settings, number)
        _show(settings, number)
        rounds.append(judge_round(settings, number, learned_from))
        if (result := conclude(settings, rounds)) is not None:
            return result


def _show(settings: BootstrapSettings, number: int) -> None:
    """Score and report the run of a round."""
    if settings.truth is not None:
        score_boxes(ScoreSettings(run=settings.run_of(number), truth=settings.truth))
    write_report(settings.run_of(number), settings.truth)
