"""The flows as Prefect deploys them: entry points for prefect.yaml and for workers."""

from flows import compare as _compare
from flows import experiment as _experiment
from flows import mine as _mine
from flows import run as _run
from flows import score as _score
from flows import train as _train
from flows.running import as_prefect_flow

train = as_prefect_flow(_train.train)
mine = as_prefect_flow(_mine.mine)
score = as_prefect_flow(_score.score)
run = as_prefect_flow(_run.run)
experiment = as_prefect_flow(_experiment.experiment)
compare = as_prefect_flow(_compare.compare)
