"""Mine rows of the corpus: decode images, run the network, extract boxes.

Worker threads decode images ahead of the network and extract boxes behind it. On a CPU they run the network, too: each
pass has one image and one thread, so that no core waits for another one, and rows do not depend on the number of
threads. On a GPU the calling thread runs it, and images of one shape share a batch; which ones depends on the rows
alone, so that a shard mined again gives the same boxes.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from itertools import chain
from typing import Any, Generic, TypeVar

import numpy as np
from torch import Tensor

from mining.arrays import FloatMap
from mining.config import MineSettings
from mining.config.execution import available_cores
from mining.corpus.images.decoding import (
    decode_image,
    network_input_size,
    resize_image,
    resolve_image_path,
    scaled_input_size,
)
from mining.engine.box_extraction import BoxExtractor, ForwardOutput, MapCallback, PreparedImage, quarantined
from mining.engine.class_crops import CROP_SOURCE_SCALE, ten_crops
from mining.engine.forward import BatchedForward, FetchedBatch
from mining.engine.outcome import ImageOutcome
from mining.engine.timing import Timing
from mining.errors import ImageError, ImageReplacedError
from mining.localizers.base import Localizer
from mining.localizers.pyramid import nearest_to_one, pictures_of
from mining.models.card import ModelCard
from mining.runtimes.worker_threads import MAX_THREADS, InferenceThreadPool

T = TypeVar("T")
ProgressCallback = Callable[[int], None]
Result = tuple[PreparedImage, ForwardOutput | ImageOutcome]  # the output if further scales are needed


class Miner:
    """A localizer with the settings to mine with."""

    def __init__(self, localizer: Localizer, card: ModelCard, settings: MineSettings) -> None:
        self.card = card
        self.settings = settings
        self.extractor = BoxExtractor(card, settings, localizer.cell_grid)
        self.workers = settings.workers or min(MAX_THREADS, available_cores())
        self.network = BatchedForward(localizer, card, settings, self.extractor.params, threads=self.workers)
        self._passes_in_threads = self.network.device.type == "cpu"
        self.scales = self.extractor.params.scales
        ascending = sorted(self.scales)
        self._middle = ascending[(len(ascending) - 1) // 2]
        self._index = {name: index for index, name in enumerate(card.class_names)}
        self.timing: Timing | None = None  # of the last call of `mine`

    def mine(
        self,
        rows: list[dict[str, Any]],
        on_progress: ProgressCallback = lambda count: None,
        on_map: MapCallback | None = None,
    ) -> list[ImageOutcome]:
        """Mine rows of the corpus table.

        Args:
            rows: Rows of one shard.
            on_progress: Called with the number of images done since the last call.
            on_map: Called with each map that boxes are extracted from, from several threads.

        Returns:
            The images' outcomes, in the order of the rows.
        """
        outcomes: dict[int, ImageOutcome] = {}
        unstable = ShapeBucketer[
            tuple[PreparedImage, ForwardOutput]
        ]()  # of one group the same scales are left to be run

        def collect(results: Iterator[list[Result]]) -> None:
            for image, result in chain.from_iterable(results):
                if isinstance(result, ForwardOutput):
                    unstable.add(self._bucket_key(image), (image, result))
                else:
                    outcomes[image.place] = result
                    on_progress(1)

        self.network.stopwatch.start()
        with InferenceThreadPool[list[Result]](self.workers) as pool:

            def run(passes: Iterable[Callable[[], Result]]) -> None:
                if self._passes_in_threads:
                    pool.submit(lambda: [extract() for extract in passes])
                    return
                for extract in passes:
                    pool.submit(lambda extract=extract: [extract()])

            for batch in self._batches(rows, pool, outcomes, on_progress):
                run(self._first_passes(batch, on_map))
                collect(pool.results(behind=self._images_in_flight()))
                for several in unstable.full(self.network.batch_size):
                    run(self._additional_passes(several, on_map))
            collect(pool.results())
            for several in unstable.rest():
                run(self._additional_passes(several, on_map))
            collect(pool.results())
        self.timing = self.network.stopwatch.read(len(rows), self.network.batch_size)
        return [outcomes[place] for place in range(len(rows))]

    def fused_map(self, row: dict[str, Any], category: str) -> FloatMap:
        """Compute the map of one class, for display, as boxes of the image are extracted from it.

        A cell classifier compares a class with the other classes of the image, so these are mapped as well.

        Args:
            row: Row of the corpus table, with the image's labels; None for an unlabelled image.
            category: Name of the class; added to the image's classes if it is not one of them.

        Returns:
            (h, w) float32, of the size of the image at the largest scale.

        Raises:
            ImageError: The image cannot be read.
        """
        image = self.prepare(0, row)
        output = self._run_one(image)
        wanted = self._index[category]
        mapped = self.extractor.classes_of(output)
        if wanted not in mapped:
            alone = self.card.object_index in (wanted, *mapped)
            mapped = [wanted] if alone else [*mapped, wanted]
            image = replace(image, classes=mapped)
            output = self._run_one(image)
        largest = image.pixels[max(self.scales)]
        maps = self.extractor.fuse(image, output, (int(largest.shape[1]), int(largest.shape[2])))
        return np.asarray(maps[mapped.index(wanted)].numpy(), np.float32)

    def _run_one(self, image: PreparedImage) -> ForwardOutput:
        """Run the scales that mining would run for this image."""
        ((_, fetched),) = self.network.run([image], self._first_scales(image))
        output = fetched.output(0)
        if self._additional_scales(image) and isinstance(self._extract(image, fetched, 0, None)[1], ForwardOutput):
            ((_, fetched),) = self.network.run_additional_scales([(image, output)], self._additional_scales(image))
            output = self._merge_scales(output, fetched.output(0))
        return output

    def _batches(
        self,
        rows: list[dict[str, Any]],
        pool: InferenceThreadPool[list[Result]],
        outcomes: dict[int, ImageOutcome],
        on_progress: ProgressCallback,
    ) -> Iterator[list[PreparedImage]]:
        bucketer = ShapeBucketer[PreparedImage]()
        for place, prepared in enumerate(pool.map_ordered(self.prepare, rows, ahead=self._images_in_flight())):
            try:
                image = prepared.result()
            except ImageError as error:
                outcomes[place] = quarantined(rows[place], str(error), replaced=isinstance(error, ImageReplacedError))
                on_progress(1)
                continue
            group = self._bucket_key(image)
            bucketer.add(group, image)
            yield from bucketer.full(self.network.images_per_pass(nearest_to_one(self._first_scales(image))), group)
        yield from bucketer.rest()

    def _images_in_flight(self) -> int:
        """Return how many images are decoded ahead of the network, and how many may wait behind it."""
        return 2 * self.network.batch_size * (self.workers if self._passes_in_threads else 1)

    def _first_passes(self, batch: list[PreparedImage], on_map: MapCallback | None) -> Iterator[Callable[[], Result]]:
        """Run the first scales of a batch; yield for each image the function that extracts its boxes."""
        for some, fetched in self.network.run(batch, self._first_scales(batch[0])):
            for position, image in enumerate(some):
                yield partial(self._extract, image, fetched, position, on_map)

    def _additional_passes(
        self, batch: list[tuple[PreparedImage, ForwardOutput]], on_map: MapCallback | None
    ) -> Iterator[Callable[[], Result]]:
        """Run the other scales of a batch, see `_first_passes`."""
        for some, fetched in self.network.run_additional_scales(batch, self._additional_scales(batch[0][0])):
            for position, (image, output) in enumerate(some):
                yield partial(self._extract_all_scales, image, output, fetched, position, on_map)

    def prepare(self, place: int, row: dict[str, Any]) -> PreparedImage:
        """Decode the image of a row and resize it to every scale. Raises ImageError."""

        def needed(height: int, width: int) -> tuple[int, int]:
            return scaled_input_size(self._input_size(height, width), max(self._picture_scales))

        digests: list[str] = []
        path = resolve_image_path(self.settings.images, row["file_name"])
        with ExitStack() as stack:
            with self.network.stopwatch.during("decode"):
                pixels, (height, width) = stack.enter_context(
                    decode_image(path, needed, row.get("content_hash"), digests.append)
                )
            return self._resize(place, row, pixels, height, width, digests[0])

    def _resize(
        self, place: int, row: dict[str, Any], pixels: Tensor, height: int, width: int, content_hash: str | None = None
    ) -> PreparedImage:
        """Resize a decoded image to every scale, and to the size that crops are cut from."""
        size = self._input_size(height, width)
        with self.network.stopwatch.during("resize"):
            pictures = pictures_of(pixels, size, self.scales)
            if self.settings.class_crops > 1:
                crops = ten_crops(resize_image(pixels, scaled_input_size(size, CROP_SOURCE_SCALE)), min(size))
            else:
                crops = None
        classes = self._classes_of(row["labels"])
        return PreparedImage(place, row, pictures, size, height, width, classes, content_hash, crops)

    def _input_size(self, height: int, width: int) -> tuple[int, int]:
        """Return the input size of the network for an image, at scale 1."""
        keep_aspect = self.settings.resize == "aspect"
        return network_input_size(height, width, short_side=self.card.input_size, keep_aspect=keep_aspect)

    @property
    def _picture_scales(self) -> tuple[float, ...]:
        """The scales that images are resized to."""
        return self.scales if self.settings.class_crops == 1 else (*self.scales, CROP_SOURCE_SCALE)

    def _classes_of(self, labels: Sequence[str] | None) -> list[int] | None:
        """Return the indices of an image's labels that the model knows; `object` only if it is the only one."""
        if labels is None:
            return None
        known = [self._index[name] for name in labels if name in self._index]
        return known if len(known) == 1 else [index for index in known if index != self.card.object_index]

    def _extract(
        self, image: PreparedImage, fetched: FetchedBatch, position: int, on_map: MapCallback | None
    ) -> Result:
        """Return the outcome, or the output if further scales are needed."""
        output = fetched.output(position)
        min_iou = self.settings.adaptive
        with self.network.stopwatch.during("regions"):
            if min_iou is None or not output.classes or not self._additional_scales(image):
                return image, self.extractor.extract(image, output, on_map)
            middle = replace(output, levels={self._middle: output.levels[self._middle]})
            return image, self.extractor.extract_if_stable(image, middle, min_iou, on_map) or output

    def _extract_all_scales(
        self,
        image: PreparedImage,
        output: ForwardOutput,
        fetched: FetchedBatch,
        position: int,
        on_map: MapCallback | None,
    ) -> Result:
        output = self._merge_scales(output, fetched.output(position))
        with self.network.stopwatch.during("regions"):
            return image, self.extractor.extract(image, output, on_map)

    def _first_scales(self, image: PreparedImage) -> tuple[float, ...]:
        """Return the scales that every such image is run at.

        With an adaptive pyramid, this is the middle one, which decides whether others are needed. For unlabelled images
        it is also the one nearest to 1, the size that classifiers are trained at, which decides the classes.
        """
        if not self.settings.adaptive:
            return self.scales
        nearest = nearest_to_one(self.scales)
        is_extra = image.classes is None and nearest != self._middle
        return (nearest, self._middle) if is_extra else (self._middle,)

    def _bucket_key(self, image: PreparedImage) -> tuple[int, ...]:
        """Return a key that is equal for images that may share a batch: of one size and the same first scales."""
        return *image.size, len(self._first_scales(image))

    def _additional_scales(self, image: PreparedImage) -> list[float]:
        return [scale for scale in self.scales if scale not in self._first_scales(image)]

    def _merge_scales(self, output: ForwardOutput, additional: ForwardOutput) -> ForwardOutput:
        levels = {**output.levels, **additional.levels}
        refined = additional.refined or output.refined
        ordered = {scale: levels[scale] for scale in self.scales}
        return replace(output, levels=ordered, refined=refined)


class ShapeBucketer(Generic[T]):
    """Collects items until enough of one shape are there for a batch."""

    def __init__(self) -> None:
        self._waiting: dict[tuple[int, ...], list[T]] = {}

    def add(self, group: tuple[int, ...], item: T) -> None:
        """Add an item of a group."""
        self._waiting.setdefault(group, []).append(item)

    def full(self, count: int, only: tuple[int, ...] | None = None) -> Iterator[list[T]]:
        """Remove and yield all batches of exactly `count` items, of one group or of all."""
        for size, items in self._waiting.items():
            if only is not None and size != only:
                continue
            while len(items) >= count:
                batch, items = items[:count], items[count:]
                self._waiting[size] = items
                yield batch

    def rest(self) -> Iterator[list[T]]:
        """Remove and yield the remaining items, one batch per group, the smallest shape first."""
        for size in sorted(self._waiting):
            if items := self._waiting.pop(size):
                yield items
