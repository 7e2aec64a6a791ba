"""From images with class names to a detector: boxes from labels, then rounds of a detector that learns from them."""

from flows.mine import mine
from flows.run import run
from mining.bootstrap.rounds import BootstrapResult, Round
from mining.config import ScoreSettings
from mining.config.bootstrap import BootstrapSettings
from tasks.bootstrapping import check_boxes, conclude, fuse_round, judge_round, train_on_run
from tasks.reporting import write_report
from tasks.scoring import score_boxes


def bootstrap(settings: BootstrapSettings) -> BootstrapResult:
    """Mine with a localizer; then train a detector on the boxes and mine with it, as long as that makes them better."""
    check_boxes(settings)
    run(settings.first_run_settings())
    rounds: list[Round] = []
    while True:
        number = len(rounds) + 1
        learned_from = train_on_run(settings, number)
        mine(settings.mine_settings(number))
        fuse_round(settings, number)
        if settings.truth is not None:
            score_boxes(ScoreSettings(run=settings.run_of(number), truth=settings.truth))
        write_report(settings.run_of(number), settings.truth)
        rounds.append(judge_round(settings, number, learned_from))
        if (result := conclude(settings, rounds)) is not None:
            return result
