"""Compute what the training of a localizer with a frozen backbone starts from: features, in the runtime of mining."""

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from itertools import islice

import torch
from torch import Tensor

from mining.config import Precision, TrainSettings
from mining.errors import ImageError
from mining.localizers.base import Localizer
from mining.runtimes.choice import choose_compute
from mining.runtimes.stage_features import prepare_stages
from mining.runtimes.worker_threads import InferenceThreadPool
from mining.training.data import ImageDataset

_IMAGES_PER_PASS = 32  # on a GPU
ViewFeatures = list[Tensor] | str  # (V, ...) features of V views of an image, or why it cannot be read


class FeatureExtractor:
    """Computes features of images with a frozen backbone, see `Localizer.condense`.

    On a CPU, each pass has one image and one thread, so that the features depend neither on the number of threads nor
    on the other images.

    Args:
        localizer: The localizer; not changed.
        settings: The runtime and the precision.
        device: Where to compute.
        threads: Number of threads that decode images and, on a CPU, run the network.

    Attributes:
        compute: How the features are computed.
    """

    def __init__(self, localizer: Localizer, settings: TrainSettings, device: torch.device, threads: int) -> None:
        precision = feature_precision(settings.precision)
        compute = choose_compute(device, settings.runtime, precision)
        self._run, self.compute = prepare_stages(
            localizer.backbone, localizer.frozen_stages(), compute, threads=threads,
            asked=(settings.runtime, precision),
        )  # fmt: skip
        self._condense = localizer.condense
        self._threads = threads
        self._on_cpu = device.type == "cpu"

    def of_batch(self, images: Tensor) -> list[Tensor]:
        """Compute the features of (B, 3, H, W) uint8 images, on their device."""
        if not self._on_cpu:
            return self._features(images)
        with InferenceThreadPool[list[Tensor]](self._threads) as pool:
            for image in images.split(1):  # type: ignore[no-untyped-call]
                pool.submit(self._features, image)
            each = list(pool.results())
        return [torch.cat(parts) for parts in zip(*each, strict=True)]

    def of_views(
        self, make_dataset: Callable[[], ImageDataset], indices: Sequence[int], views: Sequence[int]
    ) -> Iterator[tuple[int, ViewFeatures]]:
        """Compute the features of views of images, each of which is decoded once.

        Args:
            make_dataset: Makes the dataset, once for each thread.
            indices: Which images.
            views: Numbers of the views.

        Yields:
            Index, and the features on the CPU or a reason, in the order of the indices.
        """
        local = threading.local()

        def work(_: int, index: int) -> list[Tensor]:
            if not hasattr(local, "dataset"):
                local.dataset = make_dataset()
            images = local.dataset.views_of(index, views)
            if not self._on_cpu:
                return [torch.stack(images)]
            each = [self._features(image[None]) for image in images]
            return [torch.cat(parts) for parts in zip(*each, strict=True)]

        with InferenceThreadPool[list[Tensor]](self._threads) as pool:
            per_pass = 1 if self._on_cpu else max(1, _IMAGES_PER_PASS // len(views))
            results = zip(indices, pool.map_ordered(work, indices, ahead=2 * max(self._threads, per_pass)), strict=True)
            while some := [(index, _result_or_reason(future)) for index, future in islice(results, per_pass)]:
                yield from some if self._on_cpu else self._in_one_pass(some)

    def _in_one_pass(self, images: Iterable[tuple[int, ViewFeatures]]) -> Iterator[tuple[int, ViewFeatures]]:
        images = list(images)
        pixels = [views[0] for _, views in images if not isinstance(views, str)]
        features = [one.cpu() for one in self._features(torch.cat(pixels))] if pixels else []
        position = 0
        for index, views in images:
            if isinstance(views, str):
                yield index, views
                continue
            count = len(views[0])
            yield index, [one[position : position + count] for one in features]
            position += count

    def _features(self, images: Tensor) -> list[Tensor]:
        return self._condense(self._run(images.to(self.compute.device)))


def feature_precision(precision: str) -> Precision:
    """Return the precision of the features for one of Lightning's names; `auto` is that of mining."""
    if precision == "auto":
        return "auto"
    return "bfloat16" if precision.startswith("bf16") else "float16" if precision.startswith("16") else "float32"


def _result_or_reason(future: Future[list[Tensor]]) -> ViewFeatures:
    try:
        return future.result()
    except ImageError as error:
        return str(error)
