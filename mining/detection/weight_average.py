"""An exponential moving average of a detector's weights over the steps of its training.

Reference:
    Tarvainen and Valpola, "Mean teachers are better role models: Weight-averaged consistency targets improve
    semi-supervised deep learning results", NeurIPS 2017. The decay that rises in the first steps is TensorFlow's.
"""

from functools import partial

import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel

from mining.detection.network import Detector


def average_of(detector: Detector, decay: float) -> AveragedModel:
    """Return a copy of a detector that `update_parameters(detector)` makes the moving average of its weights.

    Args:
        detector: The detector in training.
        decay: Weight of the average at each step, in (0, 1): it spans about the last 1 / (1 - decay) steps. In the
            first ones it is less, so that the weights before the training do not remain in it.
    """
    average = AveragedModel(detector, avg_fn=partial(_averaged, decay), use_buffers=True)
    return average.requires_grad_(False)


def _averaged(decay: float, average: Tensor, value: Tensor, steps: Tensor | int) -> Tensor:
    """Return the next average of a weight or buffer after `steps` steps; counters are taken as they are."""
    if not average.is_floating_point():
        return value
    share = torch.as_tensor(steps, dtype=torch.float32, device=average.device)
    rising = (1 + share) / (10 + share)
    return torch.lerp(value, average, rising.clamp(max=decay).to(average.dtype))
