"""Run parts of a localizer on a CUDA device as CUDA graphs: all kernels of a pass are queued by one call.

Queueing the kernels of a pass one by one takes 4 to 8 ms of the process, more than an H100 needs to compute them, and
much more while other threads want the interpreter. A graph is captured for each shape of a batch. Batches are padded to
one of a few sizes: so there are few graphs, and few shapes for which cuDNN has to choose its kernels.
"""

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from mining.backbones.fast_depthwise import NativeDepthwise
from mining.localizers.stage_recorder import StageRecorder
from mining.runtimes.choice import Compute
from mining.runtimes.part import Method, Timer, is_same, run_with_stages

MAX_GRAPHS = 48
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Outputs:
    """What a pass computes.

    Attributes:
        result: The part's result for a batch.
        stages: Features of the recorded stages that ran, by their index.
    """

    result: Tensor
    stages: dict[int, Tensor]

    def first(self, count: int) -> "Outputs":
        """Copy those of the first `count` images."""
        result = self.result[:count].clone()
        stages = {
            stage: result if is_same(features, self.result) else features[:count].clone()
            for stage, features in self.stages.items()
        }
        return Outputs(result, stages)


Pass = Callable[[Tensor], Outputs]


class GraphedPart:
    """A part that runs as it is in the first pass of a shape, and as a captured graph from the second one on.

    Args:
        method: The part: (B, 3, H, W) uint8 images on a CUDA device to a tensor.
        compute: The device and the precision.
        recorder: Gets the features of the stages that it wants, while it is recording.
        timer: Times each replay; a pass without a graph is timed by the layers themselves.
        capture: Captures a pass for images of one shape; another one in tests.
    """

    def __init__(
        self,
        method: Method,
        compute: Compute,
        recorder: StageRecorder | None,
        timer: Timer,
        capture: Callable[[Pass, Tensor], Pass] | None = None,
    ) -> None:
        self._method = method
        self._compute = compute
        self._recorder = recorder
        self._timer = timer
        self._capture = capture or GraphCapture()
        self._can_capture = True
        self._lock = threading.Lock()  # a graph's outputs are overwritten by its next replay
        self._graphs: OrderedDict[torch.Size, Pass | None] = OrderedDict()  # None after the first pass of a shape

    def __call__(self, images: Tensor) -> Tensor:
        """Compute the result, and record the stages."""
        outputs = self._run(images)
        if self._recorder is not None:
            for stage, features in outputs.stages.items():
                self._recorder.record(stage, features)
        return outputs.result

    def stage_features(self, images: Tensor) -> list[Tensor]:
        """Compute the features of the recorder's stages, in their order."""
        assert self._recorder is not None
        outputs = self._run(images)
        return [outputs.stages[stage] for stage in self._recorder.stages]

    def _run(self, images: Tensor) -> Outputs:
        padded = _padded(images)
        with self._lock:
            graph = self._graph_for(padded)
            if graph is None:
                return self._pass(padded).first(len(images))
            with self._timer():
                return graph(padded).first(len(images))

    def _pass(self, images: Tensor) -> Outputs:
        # a graph must not use weights that autocast converted, and keeps, outside of it
        with self._compute.autocast(cache_enabled=False), NativeDepthwise():
            return Outputs(*run_with_stages(self._method, images, self._recorder))

    def _graph_for(self, images: Tensor) -> Pass | None:
        """Return the graph for images of this shape, or None if they have to run without one.

        Raises:
            OutOfMemoryError: There is no memory for it; all graphs were dropped.
        """
        shape = images.shape
        if not self._can_capture or shape not in self._graphs:
            self._graphs[shape] = None  # cuDNN and autocast prepare in the first pass what cannot be captured
            return None
        graph = self._graphs[shape]
        if graph is None:
            try:
                graph = self._capture(self._pass, images)
            except torch.OutOfMemoryError:
                self._graphs.clear()
                raise
            except RuntimeError as error:
                self._can_capture = False
                _log.warning("The network cannot run as a CUDA graph and runs without: %s", str(error).splitlines()[0])
                return None
            self._graphs[shape] = graph
        self._graphs.move_to_end(shape)
        while len(self._graphs) > MAX_GRAPHS:
            self._graphs.popitem(last=False)
        return graph


class GraphCapture:
    """Captures passes as CUDA graphs that share their memory, which is safe because their outputs are copied."""

    def __init__(self) -> None:
        self._pool = torch.cuda.graph_pool_handle()

    def __call__(self, run: Pass, images: Tensor) -> Pass:
        """Capture a pass for images of the same shape."""
        graph, static_images = torch.cuda.CUDAGraph(), images.clone()
        # other threads may wait for events meanwhile
        with torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"):
            outputs = run(static_images)

        def replay(images: Tensor) -> Outputs:
            static_images.copy_(images)
            graph.replay()
            return outputs

        return replay


def batch_size_for(count: int) -> int:
    """Return the smallest of the sizes 1, 2, 3, 4, 6, 8, 12, 16, 24, ... that is at least `count`."""
    power = 1
    while power < count:
        power *= 2
    smaller = 3 * power // 4
    return smaller if smaller >= count and power >= 4 else power


def _padded(images: Tensor) -> Tensor:
    """Repeat the last image until there are `batch_size_for` images."""
    missing = batch_size_for(len(images)) - len(images)
    return torch.cat([images, images[-1:].expand(missing, -1, -1, -1)]) if missing else images
