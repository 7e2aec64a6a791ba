"""The flows as Prefect deploys them: entry points of prefect.yaml and of workers."""

from flows import bootstrap as _bootstrap
from flows import compare as _compare
from flows import experiment as _experiment
from flows import label as _label
from flows import mine as _mine
from flows import prove as _prove
from flows import retrain as _retrain
from flows import run as _run
from flows import score as _score
from flows import train as _train
from flows.running import as_deployed_flow

train = as_deployed_flow(_train.train)
mine = as_deployed_flow(_mine.mine)
score = as_deployed_flow(_score.score)
run = as_deployed_flow(_run.run)
experiment = as_deployed_flow(_experiment.experiment)
compare = as_deployed_flow(_compare.compare)
label = as_deployed_flow(_label.label)
retrain = as_deployed_flow(_retrain.retrain)
bootstrap = as_deployed_flow(_bootstrap.bootstrap)
prove = as_deployed_flow(_prove.prove)
