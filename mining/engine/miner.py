"""The hot path: rows of the corpus in, image outcomes with their boxes out.

Worker threads decode images ahead of the network and extract boxes behind it (see `worker_threads`). Images of one
shape share a batch. The order of the batches depends on the rows alone, so that a shard mined again gives the same
boxes.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from typing import Any, Generic, TypeVar

from torch import Tensor

from mining.config import MineSettings
from mining.config.execution import available_cores
from mining.corpus.images.decoding import decode_image, network_input_size, resolve_image_path, scaled_input_size
from mining.engine.box_extraction import BoxExtractor, ForwardOutput, MapCallback, PreparedImage, quarantined
from mining.engine.forward import BatchedForward, FetchedBatch
from mining.engine.outcome import ImageOutcome
from mining.engine.pyramid import fuse_scales, nearest_to_one, pictures_of
from mining.engine.timing import Timing
from mining.engine.worker_threads import InferenceThreadPool
from mining.errors import ImageError, ImageReplacedError
from mining.localizers.base import Localizer
from mining.models.card import ModelCard
from mining.models.device import resolve_device

T = TypeVar("T")
_BATCHES_A_TURN = 8  # decoded at a time where decoding and the network take turns
ProgressCallback = Callable[[int], None]


class Miner:
    """A localizer with the settings to mine by."""

    def __init__(self, localizer: Localizer, card: ModelCard, settings: MineSettings) -> None:
        self.card = card
        self.settings = settings
        self.extractor = BoxExtractor(card, settings)
        self.workers = settings.workers or min(8, available_cores())
        self.alternate_with_forward = resolve_device(settings.device).type == "cpu"
        self.network = BatchedForward(
            localizer, card, settings, self.extractor.params, threads=self.workers, turns=self.alternate_with_forward
        )
        ascending = sorted(settings.scales)
        self._middle = ascending[(len(ascending) - 1) // 2]
        self._index = {name: index for index, name in enumerate(card.class_names)}
        self.timing: Timing | None = None  # of the last call of `mine`

    def mine(
        self,
        rows: list[dict[str, Any]],
        notify: ProgressCallback = lambda count: None,
        watch: MapCallback | None = None,
    ) -> list[ImageOutcome]:
        """Rows of the corpus to their outcomes, in the same order."""
        outcomes: dict[int, ImageOutcome] = {}
        unstable = ShapeBucketer[
            tuple[PreparedImage, ForwardOutput]
        ]()  # of one group the same scales are left to be run

        def sort_out(results: Iterator[tuple[PreparedImage, ForwardOutput | ImageOutcome]]) -> None:
            for image, result in results:
                if isinstance(result, ForwardOutput):
                    unstable.add(self._group(image), (image, result))
                else:
                    outcomes[image.place] = result
                    notify(1)

        self.network.watch.start()
        with InferenceThreadPool[tuple[PreparedImage, ForwardOutput | ImageOutcome]](
            self.workers, alternate_with_forward=self.alternate_with_forward
        ) as pool:

            def run_additional_scales(batches: Iterator[list[tuple[PreparedImage, ForwardOutput]]]) -> None:
                for batch in batches:
                    for some, fetched in self.network.run_additional_scales(batch, self._scales_left(batch[0][0])):
                        for position, (image, seen) in enumerate(some):
                            pool.later(self._cut_further, image, seen, fetched, position, watch)

            for batch in self._batches(rows, pool, outcomes, notify):
                for some, fetched in self.network.run(batch, self._first_scales(batch[0])):
                    for position, image in enumerate(some):
                        pool.later(self._cut, image, fetched, position, watch)
                sort_out(pool.results(behind=2 * self.network.batch_size))
                run_additional_scales(unstable.full(self.network.batch_size))
            sort_out(pool.results())
            run_additional_scales(unstable.rest())
            sort_out(pool.results())
        self.timing = self.network.watch.read(len(rows), self.network.batch_size)
        return [outcomes[place] for place in range(len(rows))]

    def fused_maps(self, row: dict[str, Any], classes: list[str]) -> tuple[Tensor, Tensor]:
        """The image and its fused maps, for people to look at.

        Gives (3, h, w) uint8 at the largest scale, and (K, h, w) float32 raw maps of the classes named, of one size.
        Raises ImageError.
        """
        image = self._prepare(0, {**row, "labels": classes})
        ((_, fetched),) = self.network.run([image], self._first_scales(image))
        seen = fetched.of(0)
        if self._scales_left(image) and isinstance(self._cut(image, fetched, 0, None)[1], ForwardOutput):
            ((_, fetched),) = self.network.run_additional_scales([(image, seen)], self._scales_left(image))
            seen = self._together(seen, fetched.of(0))
        largest = image.pixels[max(self.settings.scales)]
        return largest, fuse_scales(list(seen.levels.values()), (int(largest.shape[1]), int(largest.shape[2])))

    def _batches(
        self,
        rows: list[dict[str, Any]],
        pool: InferenceThreadPool[tuple[PreparedImage, ForwardOutput | ImageOutcome]],
        outcomes: dict[int, ImageOutcome],
        notify: ProgressCallback,
    ) -> Iterator[list[PreparedImage]]:
        alike = ShapeBucketer[PreparedImage]()
        ahead = (_BATCHES_A_TURN if pool.alternate_with_forward else 2) * self.network.batch_size
        for place, prepared in enumerate(pool.each(self._prepare, rows, ahead=ahead)):
            try:
                image = prepared.result()
            except ImageError as error:
                outcomes[place] = quarantined(rows[place], str(error), replaced=isinstance(error, ImageReplacedError))
                notify(1)
                continue
            group = self._group(image)
            alike.add(group, image)
            yield from alike.full(self.network.images_a_pass(nearest_to_one(self._first_scales(image))), group)
        yield from alike.rest()

    def _prepare(self, place: int, row: dict[str, Any]) -> PreparedImage:
        def needed(height: int, width: int) -> tuple[int, int]:
            return scaled_input_size(
                network_input_size(height, width, short_side=self.card.input_size), max(self.settings.scales)
            )

        digests: list[str] = []
        path = resolve_image_path(self.settings.images, row["file_name"])
        with ExitStack() as stack:
            with self.network.watch.during("decode"):
                pixels, (height, width) = stack.enter_context(
                    decode_image(path, needed, row.get("content_hash"), digests.append)
                )
            size = network_input_size(height, width, short_side=self.card.input_size)
            with self.network.watch.during("resize"):
                pictures = pictures_of(pixels, size, self.settings.scales)
        known = row["labels"]
        classes = None if known is None else [self._index[name] for name in known if name in self._index]
        return PreparedImage(place, row, pictures, size, height, width, classes, digests[0])

    def _cut(
        self, image: PreparedImage, fetched: FetchedBatch, position: int, watch: MapCallback | None
    ) -> tuple[PreparedImage, ForwardOutput | ImageOutcome]:
        """The outcome, or what was seen where that does not suffice."""
        seen = fetched.of(position)
        least = self.settings.adaptive
        with self.network.watch.during("regions"):
            if least is None or not seen.classes or not self._scales_left(image):
                return image, self.extractor.outcome(image, seen, watch)
            middle = replace(seen, levels={self._middle: seen.levels[self._middle]})
            return image, self.extractor.outcome_if_stable(image, middle, least, watch) or seen

    def _cut_further(
        self, image: PreparedImage, seen: ForwardOutput, fetched: FetchedBatch, position: int, watch: MapCallback | None
    ) -> tuple[PreparedImage, ForwardOutput | ImageOutcome]:
        seen = self._together(seen, fetched.of(position))
        with self.network.watch.during("regions"):
            return image, self.extractor.outcome(image, seen, watch)

    def _first_scales(self, image: PreparedImage) -> tuple[float, ...]:
        """The scales that every such image is run at.

        With an adaptive pyramid the middle one, which decides whether others are needed. Where the labels are not
        known, also the one nearest to 1: it is the size that classifiers are trained at, and decides on the classes.
        """
        if not self.settings.adaptive:
            return self.settings.scales
        nearest = nearest_to_one(self.settings.scales)
        is_extra = image.classes is None and nearest != self._middle
        return (nearest, self._middle) if is_extra else (self._middle,)

    def _group(self, image: PreparedImage) -> tuple[int, ...]:
        """Images of one group may share a batch: they are of one size, and run at the same scales."""
        return *image.size, len(self._first_scales(image))

    def _scales_left(self, image: PreparedImage) -> list[float]:
        return [scale for scale in self.settings.scales if scale not in self._first_scales(image)]

    def _together(self, seen: ForwardOutput, further: ForwardOutput) -> ForwardOutput:
        levels = {**seen.levels, **further.levels}
        return ForwardOutput(seen.logits, seen.classes, {scale: levels[scale] for scale in self.settings.scales})


class ShapeBucketer(Generic[T]):
    """Things that wait until enough of one size are there to share a batch."""

    def __init__(self) -> None:
        self._waiting: dict[tuple[int, ...], list[T]] = {}

    def add(self, group: tuple[int, ...], thing: T) -> None:
        """One more."""
        self._waiting.setdefault(group, []).append(thing)

    def full(self, count: int, only: tuple[int, ...] | None = None) -> Iterator[list[T]]:
        """As many batches of exactly `count` as there are, of one group or of all; their things wait no more."""
        for size, things in self._waiting.items():
            if only is not None and size != only:
                continue
            while len(things) >= count:
                batch, things = things[:count], things[count:]
                self._waiting[size] = things
                yield batch

    def rest(self) -> Iterator[list[T]]:
        """Whatever waits, the smallest size first."""
        for size in sorted(self._waiting):
            if things := self._waiting.pop(size):
                yield things
