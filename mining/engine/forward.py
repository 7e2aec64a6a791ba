"""Batches through the network: the device's memory, the scales, and the way of the maps back."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from mining.config import MineSettings
from mining.engine.box_extraction import ForwardOutput, PreparedImage
from mining.engine.profiling import Stopwatch
from mining.engine.pyramid import levels_at, localize_pyramid, nearest_to_one
from mining.errors import ModelError
from mining.localizers.base import NO_CLASS, Localizer, pad_classes
from mining.models.card import ModelCard
from mining.models.class_outputs import choose_outputs, class_probabilities
from mining.models.device import resolve_device
from mining.models.fuse_batchnorm import prepare_for_inference
from mining.models.overrides import ExtractionParams

T = TypeVar("T")
# Measured with EfficientNet-Lite0 on 2 cores (tests/benchmarks/README.md): 4 images a pass mine quickest. In a process
# that knows no larger ones, 16 took 19 ms an image against 7, most of it because the C library's memory allocator gives
# the pages of large tensors back and asks for them anew.
BATCH_ON_CPU = 4
BATCH_ON_GPU = 32
MEMORY_SHARE = 0.7  # of what is free; the rest is for images of other shapes
_NO_MEMORY = ("out of memory", "can't allocate memory")


@dataclass(frozen=True)
class FetchedBatch:
    """A batch's maps on their way to the CPU.

    logits: (B, C). classes: (B, K), NO_CLASS as padding. levels: by scale, (B, K, h, w).
    arrived: None where they are there already.
    """

    logits: Tensor
    classes: Tensor
    levels: dict[float, Tensor]
    arrived: torch.cuda.Event | None = None

    def of(self, position: int) -> ForwardOutput:
        """Of one image of the batch; waits until it is there."""
        if self.arrived is not None:
            self.arrived.synchronize()
        classes = [index for index in self.classes[position].tolist() if index != NO_CLASS]
        levels = {scale: level[position, : len(classes)] for scale, level in self.levels.items()}
        return ForwardOutput(self.logits[position], classes, levels)


class BatchedForward:
    """A localizer on its device, and how many images it is given at a time.

    batch_size: images a pass at scale 1; at other scales as many as have about as many pixels. By default what suits
    the device and fits into its memory; halved when there is not memory enough after all.
    """

    def __init__(
        self,
        localizer: Localizer,
        card: ModelCard,
        settings: MineSettings,
        cut: ExtractionParams,
        *,
        threads: int,
        turns: bool,
    ) -> None:
        self.device = resolve_device(settings.device)
        self.localizer = prepare_for_inference(localizer, self.device)
        self.card = card
        self.settings = settings
        self.cut = cut
        self.watch = Stopwatch(self.localizer, self.device, threads=threads, turns=turns)
        on_cpu = self.device.type == "cpu"
        self.batch_size = settings.batch_size or (BATCH_ON_CPU if on_cpu else BATCH_ON_GPU)
        self._fits = settings.batch_size is not None or self.device.type != "cuda"

    def images_a_pass(self, scale: float) -> int:
        """How many images go through at that scale."""
        return max(1, round(self.batch_size / scale**2))

    def run(
        self, batch: Sequence[PreparedImage], scales: Sequence[float]
    ) -> Iterator[tuple[Sequence[PreparedImage], FetchedBatch]]:
        """Logits and maps at some scales, of images of one size; in pieces where memory asks for them.

        Raises ModelError when there is not memory enough for one image.
        """
        if not self._fits:
            one = batch[:1]
            self.batch_size = batch_that_fits(*self._memory_of(lambda: self._seen(one, [nearest_to_one(scales)])))
            self._fits = True
        at_once = self.images_a_pass(nearest_to_one(scales))
        for start in range(0, len(batch), at_once):
            yield from self._in_pieces(lambda some: self._seen(some, scales), batch[start : start + at_once])

    def run_additional_scales(
        self, batch: Sequence[tuple[PreparedImage, ForwardOutput]], scales: Sequence[float]
    ) -> Iterator[tuple[Sequence[tuple[PreparedImage, ForwardOutput]], FetchedBatch]]:
        """Maps at further scales of what was seen at others, of the same classes; otherwise like `look`."""
        at_once = self.batch_size
        for start in range(0, len(batch), at_once):
            yield from self._in_pieces(
                lambda some: self._additional_outputs(some, scales), batch[start : start + at_once]
            )

    def _seen(self, batch: Sequence[PreparedImage], scales: Sequence[float]) -> FetchedBatch:
        asked = [image.classes for image in batch]

        def choose(logits: Tensor) -> Tensor:
            predicted = self._predicted(logits) if any(one is None for one in asked) else []
            classes = [predicted[i] if one is None else one for i, one in enumerate(asked)]
            return choose_outputs(classes, logits, self.card)

        images = self._on_device(batch, scales)
        with self.watch.on_device("maps"), self._quietly():
            maps = localize_pyramid(self.localizer, images, classes=choose)
            return self._fetched(maps.logits, maps.classes, maps.levels)

    def _additional_outputs(
        self, batch: Sequence[tuple[PreparedImage, ForwardOutput]], scales: Sequence[float]
    ) -> FetchedBatch:
        images = self._on_device([image for image, _ in batch], scales)
        classes = pad_classes([seen.classes for _, seen in batch])
        height, width = batch[0][0].size
        with self.watch.on_device("maps"), self._quietly():
            levels = levels_at(self.localizer, images, classes.to(self.device), at_once=len(batch) * height * width)
            return self._fetched(torch.stack([seen.logits for _, seen in batch]), classes, levels)

    def _in_pieces(
        self, work: Callable[[Sequence[T]], FetchedBatch], batch: Sequence[T]
    ) -> Iterator[tuple[Sequence[T], FetchedBatch]]:
        pending, size = [batch], self.batch_size
        while pending:
            some = pending.pop(0)
            try:
                fetched = work(some)
            except RuntimeError as error:
                if not _is_no_memory(error):
                    raise
                fetched = None
            if fetched is not None:
                yield some, fetched
                continue
            # not in the handler, whose traceback holds on to the tensors
            if len(some) == 1:
                raise ModelError(
                    f"The device {self.device} has not enough memory for one image at scales "
                    f"{', '.join(map(str, self.settings.scales))}; give smaller --scales"
                    f"{'' if self.device.type == 'cpu' else ', or --device cpu'}."
                )
            if self.device.type == "cuda":
                torch.cuda.empty_cache()
            half = (len(some) + 1) // 2
            pending[:0] = [some[:half], some[half:]]
            self.batch_size = min(self.batch_size, max(1, size * half // len(batch)))

    def _memory_of(self, work: Callable[[], FetchedBatch]) -> tuple[int, int]:
        """Bytes that the work takes on the CUDA device at most, and bytes that are free."""
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(self.device)
        before = torch.cuda.memory_allocated(self.device)
        work()
        torch.cuda.synchronize(self.device)
        return torch.cuda.max_memory_allocated(self.device) - before, torch.cuda.mem_get_info(self.device)[0]

    def _on_device(self, batch: Sequence[PreparedImage], scales: Sequence[float]) -> dict[float, Tensor]:
        with self.watch.on_device("copy"):
            images = {scale: torch.stack([image.pixels[scale] for image in batch]) for scale in scales}
            if self.device.type == "cuda":
                images = {scale: some.pin_memory() for scale, some in images.items()}
            return {scale: some.to(self.device, non_blocking=True) for scale, some in images.items()}

    @contextmanager
    def _quietly(self) -> Iterator[None]:
        quiet = torch.no_grad() if self.localizer.needs_gradients else torch.inference_mode()
        with quiet, torch.autocast(self.device.type, enabled=self.device.type == "cuda"):
            yield

    def _predicted(self, logits: Tensor) -> list[list[int]]:
        scores = class_probabilities(logits, self.card).cpu()
        best = scores.topk(min(self.settings.max_classes, scores.shape[1]))
        return [
            [int(index) for value, index in zip(values, indices, strict=True) if value >= self.cut.class_cut]
            for values, indices in zip(best.values, best.indices, strict=True)
        ]

    def _fetched(self, logits: Tensor, classes: Tensor, levels: dict[float, Tensor]) -> FetchedBatch:
        if self.device.type != "cuda":
            return FetchedBatch(logits.cpu(), classes.cpu(), {scale: level.cpu() for scale, level in levels.items()})
        fetched = FetchedBatch(
            _pinned(logits), _pinned(classes), {scale: _pinned(level) for scale, level in levels.items()},
            torch.cuda.Event(),  # type: ignore[no-untyped-call]
        )  # fmt: skip
        fetched.arrived.record()  # type: ignore[union-attr]
        return fetched


def batch_that_fits(needed: int, free: int) -> int:
    """Images a pass, a power of two up to BATCH_ON_GPU. needed: bytes of one image; free: bytes there are."""
    size = BATCH_ON_GPU
    while size > 1 and size * needed > MEMORY_SHARE * free:
        size //= 2
    return size


def _is_no_memory(error: RuntimeError) -> bool:
    return isinstance(error, torch.OutOfMemoryError) or any(words in str(error) for words in _NO_MEMORY)


def _pinned(tensor: Tensor) -> Tensor:
    """On its way to the CPU: what is in it holds when the device is done with all it was given so far."""
    return torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True).copy_(tensor, non_blocking=True)
