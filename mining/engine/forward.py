"""Batched forward passes: batch size by device memory, scales, and the transfer of maps to the CPU."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor
from torch.nn import functional

from mining.config import MineSettings
from mining.engine.box_extraction import ForwardOutput, PreparedImage
from mining.engine.class_crops import logits_of_mean
from mining.engine.profiling import Stopwatch
from mining.errors import ModelError
from mining.localizers.base import NO_CLASS, Localizer, pad_classes
from mining.localizers.map_refiner import MapRefiner, RefinedMaps, feature_scale
from mining.localizers.pyramid import levels_at, localize_pyramid, nearest_to_one
from mining.models.card import ModelCard
from mining.models.class_outputs import choose_outputs, class_probabilities
from mining.models.device import resolve_device
from mining.models.fuse_batchnorm import prepare_for_inference
from mining.models.overrides import ExtractionParams
from mining.runtimes.choice import choose_compute
from mining.runtimes.prepare import use_runtime

T = TypeVar("T")
# Larger batches are slower on a CPU (tests/benchmarks/README.md), and a pass of one image gives the same numbers
# whatever other images there are.
BATCH_ON_CPU = 1
BATCH_ON_GPU = 32
MEMORY_SHARE = 0.7  # of free memory; the rest is for images of other shapes
_OUT_OF_MEMORY = ("out of memory", "can't allocate memory")


@dataclass(frozen=True)
class FetchedBatch:
    """The output of a batch, being transferred to the CPU.

    Attributes:
        logits: (B, C).
        classes: (B, K), padded with NO_CLASS.
        levels: (B, K, h, w) maps by scale.
        refined: (B, K, h, w) refined maps; None if maps are not refined.
        is_object: Per image, whether its maps together are that of the class `object`.
        arrived: Event of the end of the transfer; None if it has ended.
    """

    logits: Tensor
    classes: Tensor
    levels: dict[float, Tensor]
    refined: RefinedMaps | None
    is_object: list[bool]
    arrived: torch.cuda.Event | None = None

    def output(self, position: int) -> ForwardOutput:
        """Return the output for one image of the batch; waits for the transfer."""
        if self.arrived is not None:
            self.arrived.synchronize()
        classes = [index for index in self.classes[position].tolist() if index != NO_CLASS]
        count = len(classes)
        levels = {scale: level[position, :count] for scale, level in self.levels.items()}
        refined = None if self.refined is None else self.refined.of_image(position, count)
        return ForwardOutput(self.logits[position], classes, levels, refined, self.is_object[position])


class BatchedForward:
    """A localizer on its device, run on batches of a size that fits.

    Attributes:
        batch_size: Images per pass at scale 1; at other scales as many as have about as many pixels. By default what
            suits the device and fits into its memory; halved if memory runs out.
        recorder: Records the features that maps are refined by; None if they are not refined.
    """

    def __init__(
        self,
        localizer: Localizer,
        card: ModelCard,
        settings: MineSettings,
        params: ExtractionParams,
        *,
        threads: int,
    ) -> None:
        self.device = resolve_device(settings.device)
        compute = choose_compute(self.device, settings.runtime, settings.precision)
        self.localizer = prepare_for_inference(localizer, self.device)
        self.card = card
        self.settings = settings
        self.params = params
        self.refiner = None
        if params.refine != "none":
            self.refiner = MapRefiner(self.localizer, params.refine, params.walk_steps, keep_features=settings.parts)
        self.recorder = None if self.refiner is None else self.refiner.recorder
        self.stopwatch = Stopwatch(self.localizer, self.device, threads=threads)
        self.compute = use_runtime(
            self.localizer, compute, self.recorder, threads=threads, timer=self.stopwatch.pass_of_runtime,
            asked=(settings.runtime, settings.precision),
        )  # fmt: skip
        self.stopwatch.device_name = self.compute.describe()
        on_cpu = self.device.type == "cpu"
        self.batch_size = settings.batch_size or (BATCH_ON_CPU if on_cpu else BATCH_ON_GPU)
        self._fits = settings.batch_size is not None or self.device.type != "cuda"

    def images_per_pass(self, scale: float) -> int:
        """Return the number of images per pass at a scale."""
        return max(1, round(self.batch_size / scale**2))

    def run(
        self, batch: Sequence[PreparedImage], scales: Sequence[float]
    ) -> Iterator[tuple[Sequence[PreparedImage], FetchedBatch]]:
        """Yield logits and maps of images of one size at the scales, in smaller batches if memory runs out.

        Raises:
            ModelError: The device lacks the memory for one image.
        """
        if not self._fits:
            one = batch[:1]
            self.batch_size = batch_that_fits(
                *self._measure_memory(lambda: self._forward(one, [nearest_to_one(scales)]))
            )
            self._fits = True
        count = self.images_per_pass(nearest_to_one(scales))
        for start in range(0, len(batch), count):
            yield from self._run_in_pieces(lambda some: self._forward(some, scales), batch[start : start + count])

    def run_additional_scales(
        self, batch: Sequence[tuple[PreparedImage, ForwardOutput]], scales: Sequence[float]
    ) -> Iterator[tuple[Sequence[tuple[PreparedImage, ForwardOutput]], FetchedBatch]]:
        """Yield maps at further scales of images that have outputs at others, for the same classes; see `run`."""
        count = self.batch_size
        for start in range(0, len(batch), count):
            yield from self._run_in_pieces(
                lambda some: self._additional_outputs(some, scales), batch[start : start + count]
            )

    def _forward(self, batch: Sequence[PreparedImage], scales: Sequence[float]) -> FetchedBatch:
        classes = [image.classes for image in batch]
        of_crops = self._classify_crops(batch)

        def choose(of_image: Tensor) -> Tensor:
            logits = of_image if of_crops is None else of_crops
            if None in classes:
                predicted = self._predict_classes(logits)
                classes[:] = [predicted[i] if one is None else one for i, one in enumerate(classes)]
            return choose_outputs([one or [] for one in classes], logits, self.card)

        images = self._to_device(batch, scales)
        with self.stopwatch.on_device("maps"), self._without_gradients():
            maps = localize_pyramid(
                self.localizer, images, classes=choose, recorder=self.recorder, record_scale=feature_scale(images)
            )
        refined = self._refine(images[feature_scale(images)], maps.levels, maps.classes)
        is_object = [self.card.object_index in (one or []) for one in classes]
        logits = maps.logits if of_crops is None else of_crops
        return self._fetch(logits, maps.classes, maps.levels, refined, is_object)

    def _classify_crops(self, batch: Sequence[PreparedImage]) -> Tensor | None:
        """Return (B, C) logits of the crops' mean probabilities; None if images are not cropped."""
        crops = [image.crops for image in batch if image.crops is not None]
        if not crops:
            return None
        with self.stopwatch.on_device("maps"), self._without_gradients():
            pieces = torch.split(torch.cat(crops), self.images_per_pass(1.0))
            logits = torch.cat([self.localizer(some.to(self.device)).float() for some in pieces])
        return logits_of_mean(logits.view(len(batch), -1, logits.shape[1]), self.card.objective)

    def _additional_outputs(
        self, batch: Sequence[tuple[PreparedImage, ForwardOutput]], scales: Sequence[float]
    ) -> FetchedBatch:
        images = self._to_device([image for image, _ in batch], scales)
        classes = pad_classes([output.classes for _, output in batch])
        height, width = batch[0][0].size
        record_scale = feature_scale({*batch[0][1].levels, *images})
        with self.stopwatch.on_device("maps"), self._without_gradients():
            levels = levels_at(
                self.localizer,
                images,
                classes.to(self.device),
                at_once=len(batch) * height * width,
                recorder=self.recorder,
                record_scale=record_scale,
            )
        outputs = [output for _, output in batch]
        refined = None
        if record_scale in images:  # otherwise the maps were refined with the first scales
            all_levels = {**_stack_levels(outputs, self.device), **levels}
            refined = self._refine(images[record_scale], all_levels, classes.to(self.device))
        logits, is_object = torch.stack([output.logits for output in outputs]), [one.is_object for one in outputs]
        return self._fetch(logits, classes, levels, refined, is_object)

    def _refine(self, images: Tensor, levels: dict[float, Tensor], classes: Tensor) -> RefinedMaps | None:
        """Refine the maps of the images whose features were recorded; None if maps are not refined."""
        if self.refiner is None or not classes.shape[1]:
            return None
        with self.stopwatch.on_device("refine"), self._without_gradients():
            return self.refiner.refine(images, levels, classes)

    def _run_in_pieces(
        self, work: Callable[[Sequence[T]], FetchedBatch], batch: Sequence[T]
    ) -> Iterator[tuple[Sequence[T], FetchedBatch]]:
        pending, size = [batch], self.batch_size
        while pending:
            some = pending.pop(0)
            try:
                fetched = work(some)
            except RuntimeError as error:
                if not _is_out_of_memory(error):
                    raise
                fetched = None
            if fetched is not None:
                yield some, fetched
                continue
            # outside the handler, whose traceback keeps the tensors alive
            if len(some) == 1:
                raise ModelError(
                    f"The device {self.device} lacks the memory for one image at scales "
                    f"{', '.join(map(str, self.params.scales))}; give smaller --scales"
                    f"{'' if self.device.type == 'cpu' else ', or --device cpu'}."
                )
            if self.device.type == "cuda":
                torch.cuda.empty_cache()
            half = (len(some) + 1) // 2
            pending[:0] = [some[:half], some[half:]]
            self.batch_size = min(self.batch_size, max(1, size * half // len(batch)))

    def _measure_memory(self, work: Callable[[], FetchedBatch]) -> tuple[int, int]:
        """Return the peak bytes of the work on the CUDA device, and the free bytes."""
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(self.device)
        before = torch.cuda.memory_allocated(self.device)
        work()
        torch.cuda.synchronize(self.device)
        return torch.cuda.max_memory_allocated(self.device) - before, torch.cuda.mem_get_info(self.device)[0]

    def _to_device(self, batch: Sequence[PreparedImage], scales: Sequence[float]) -> dict[float, Tensor]:
        with self.stopwatch.on_device("copy"):
            images = {scale: torch.stack([image.pixels[scale] for image in batch]) for scale in scales}
            if self.device.type == "cuda":
                images = {scale: some.pin_memory() for scale, some in images.items()}
            return {scale: some.to(self.device, non_blocking=True) for scale, some in images.items()}

    @contextmanager
    def _without_gradients(self) -> Iterator[None]:
        quiet = torch.no_grad() if self.localizer.needs_gradients else torch.inference_mode()
        with quiet, self.compute.autocast():
            yield

    def _predict_classes(self, logits: Tensor) -> list[list[int]]:
        """Choose the classes of each image; `object` if it is mined and no class is probable enough."""
        instead = [] if self.card.object_index is None else [self.card.object_index]
        scores = class_probabilities(logits, self.card).cpu()
        best = scores.topk(min(self.settings.max_classes, scores.shape[1]))
        return [
            [int(index) for value, index in zip(values, indices, strict=True) if value >= self.params.class_cut]
            or instead
            for values, indices in zip(best.values, best.indices, strict=True)
        ]

    def _fetch(
        self,
        logits: Tensor,
        classes: Tensor,
        levels: dict[float, Tensor],
        refined: RefinedMaps | None,
        is_object: list[bool],
    ) -> FetchedBatch:
        is_cuda = self.device.type == "cuda"
        copy = _copy_to_pinned if is_cuda else Tensor.cpu
        with self.stopwatch.on_device("maps"), self._without_gradients():
            copied = None
            if refined is not None:
                features = None if refined.features is None else copy(refined.features)
                copied = RefinedMaps(copy(refined.maps), copy(refined.class_maps), features)
            on_cpu = copy(logits), copy(classes), {scale: copy(level) for scale, level in levels.items()}, copied
        if not is_cuda:
            return FetchedBatch(*on_cpu, is_object)
        transferred = torch.cuda.Event()  # type: ignore[no-untyped-call]
        transferred.record()
        return FetchedBatch(*on_cpu, is_object, transferred)


def batch_that_fits(needed: int, free: int) -> int:
    """Return the images per pass, a power of two up to BATCH_ON_GPU.

    Args:
        needed: Bytes for one image.
        free: Free bytes of the device.
    """
    size = BATCH_ON_GPU
    while size > 1 and size * needed > MEMORY_SHARE * free:
        size //= 2
    return size


def _stack_levels(outputs: Sequence[ForwardOutput], device: torch.device) -> dict[float, Tensor]:
    """Stack the maps of images that may have different numbers of classes: (B, K, h, w) by scale, padded with 0."""
    count = max(len(output.classes) for output in outputs)
    return {
        scale: torch.stack(
            [functional.pad(output.levels[scale], (0, 0, 0, 0, 0, count - len(output.classes))) for output in outputs]
        ).to(device)
        for scale in outputs[0].levels
    }


def _is_out_of_memory(error: RuntimeError) -> bool:
    return isinstance(error, torch.OutOfMemoryError) or any(words in str(error) for words in _OUT_OF_MEMORY)


def _copy_to_pinned(tensor: Tensor) -> Tensor:
    """Start copying a tensor to pinned CPU memory; it is complete when the device has done all work queued so far."""
    return torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True).copy_(tensor, non_blocking=True)
