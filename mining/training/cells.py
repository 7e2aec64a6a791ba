"""Train a cell classifier on the activation maps of the localizer that was just trained.

In round one, cells of high activation are examples of their class, and cells where all classes of the image are low are
examples of the background; the cells between them are left out. In round two, the classifier's own probability and the
activation decide together, which adds the rest of the objects. In images whose true boxes are known, these decide in
both rounds. The features are those of the passes that compute the maps: the network runs once per image and scale.
"""

import copy
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import islice
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from mining.config import Precision, Runtime
from mining.corpus.images.decoding import (
    decode_image,
    network_input_size,
    resolve_image_path,
    scaled_input_size,
)
from mining.errors import ImageError
from mining.localizers.base import Localizer, pad_classes
from mining.localizers.cell_classifier import (
    CellClassifier,
    affinity_features,
    build_cell_classifier,
    cell_spec,
    grid_of,
    on_one_grid,
)
from mining.localizers.map_refiner import FEATURE_SCALE, class_maps_on_grid, walk_class_maps
from mining.localizers.pyramid import localize_pyramid, pictures_of
from mining.localizers.stage_recorder import StageRecorder
from mining.models.fuse_batchnorm import prepare_for_inference
from mining.regions.refinement import AffinityWalk
from mining.runtimes.choice import choose_compute
from mining.runtimes.prepare import use_runtime
from mining.runtimes.worker_threads import InferenceThreadPool, restored_threads
from mining.training.cell_labels import UNUSED, label_cells
from mining.training.labelled_images import LabelledImages
from mining.training.true_cells import TrueCells, TrueObjects, label_true_cells, true_cells

SCALES = (1.0, FEATURE_SCALE)  # of the maps
# Of a larger corpus, a sample of the higher of the two limits. On VOC's 20 classes, half of 427 images teach as much.
MAX_IMAGES, IMAGES_PER_CLASS = 1000, 20
MAX_CELLS = 1_000_000
# The projections of the features are fitted to the first images. 64 instead of 128 cost a point of CorLoc on photos of
# 7 classes, 256 gained nothing; they wait in memory, up to a limit.
PROJECTION_IMAGES, PROJECTION_CELLS, PROJECTION_BYTES = 128, 16_384, 2**29
# A longer fit learns the errors of the maps: with 128 images of 20 classes, CorLoc falls from 62 to 60 % when the
# number of steps is doubled; with 427 images, it does not.
EPOCHS, MIN_STEPS = 2, 120
BATCH_SIZE, LEARNING_RATE, WEIGHT_DECAY = 2048, 2e-3, 1e-3
EXAMPLE_SHARE = 0.5  # of an image's examples, drawn again in each round
MAX_CLASS_WEIGHT, MIN_CLASS_WEIGHT = 5.0, 0.2
# From the localizer's threshold: a cell is an example of its class above 0.6 for CAM, which is cut at 0.25, and of the
# background below 0.2. Chosen on training images of four sets; 0.5 to 0.6 and 0.2 to 0.25 are within a point of CorLoc.
_ABOVE_THRESHOLD, _BELOW_THRESHOLD = 0.35, 0.05
_HIGHEST_THRESHOLD = 0.85  # some cells are above it in maps that are cut high
_ROUND_TWO = (0.5, 0.3)  # lowest value of the foreground, and highest of the background
_IMAGES_PER_LOAD = 16
_NO_EXAMPLES = (
    "No cell classifier was trained: the activation maps give no examples of the background, or none of any class. "
    "Maps will be refined by the affinity walk alone."
)
_ONE_STAGE = (
    "The backbone {name} is used as one stage, so that the cell classifier reads its last features alone; boxes end "
    "less exactly at boundaries than with a backbone of several stages (see `boxmine backbones`)."
)

Prepared = tuple[int, dict[float, Tensor]]  # index of an image, and (3, h, w) uint8 pixels by scale
CellProgress = Callable[[int, int], None]


@dataclass(frozen=True)
class ImageCells:
    """A sample of n cells of one image.

    Attributes:
        features: (n, P) float16, projected.
        activation: (n, K) float32 in 0-1, the walked class maps of the image's K classes.
        classes: K class indices.
        true: Which cells are inside true boxes; None if these are not known.
    """

    features: Tensor
    activation: Tensor
    classes: list[int]
    true: TrueCells | None = None


@dataclass(frozen=True)
class CellRecord:
    """How a cell classifier was trained.

    Attributes:
        images: Number of images.
        examples: Number of cells in the last round.
        seconds: Duration.
    """

    images: int
    examples: int
    seconds: float


@dataclass(frozen=True)
class CellTraining:
    """The result of training a cell classifier.

    Attributes:
        classifier: On the CPU, in evaluation mode; None if the maps gave no examples.
        record: For the model's card.
        notes: Why there is no classifier, or what it lacks.
    """

    classifier: CellClassifier | None
    record: CellRecord
    notes: list[str]


def scaled_image(images: LabelledImages, index: int, input_size: int) -> Prepared:
    """Decode an image and resize it to each of SCALES, as mining sees it.

    Args:
        images: Files.
        index: Which of them.
        input_size: Shorter side at scale 1, px.

    Raises:
        ImageError: It cannot be read.
    """

    def at_scale_one(height: int, width: int) -> tuple[int, int]:
        return network_input_size(height, width, short_side=input_size)

    def needed(height: int, width: int) -> tuple[int, int]:
        return scaled_input_size(at_scale_one(height, width), max(SCALES))

    path = resolve_image_path(images.root, images.files[index])
    with decode_image(path, needed) as (pixels, (height, width)):
        return index, pictures_of(pixels, at_scale_one(height, width), SCALES)


def train_cell_classifier(
    localizer: Localizer,
    images: LabelledImages,
    *,
    input_size: int,
    device: torch.device,
    seed: int,
    threads: int = 1,
    runtime: Runtime = "auto",
    precision: Precision = "auto",
    objects: Mapping[int, TrueObjects] = MappingProxyType({}),
    progress: CellProgress = lambda done, total: None,
) -> CellTraining:
    """Train a cell classifier for a trained localizer.

    Args:
        localizer: The trained localizer; not changed.
        images: Labelled images. Of a large corpus, a sample is used in which rare classes are kept.
        input_size: Side of the network's input at scale 1, px.
        device: Where to compute.
        seed: Seed of the samples, the start weights and the order.
        threads: Number of threads that decode images and, on a CPU, run the network, each for an image of its own. The
            classifier does not depend on it.
        runtime: What runs the network.
        precision: In which precision; `auto` is float16 on a GPU and float32 elsewhere.
        objects: All objects of some images, by position in `images`; these images are always used.
        progress: Called with the number of images whose maps are computed, and of all.

    Returns:
        The classifier on the CPU; none if there are no examples of the background or of any class.
    """
    started = time.monotonic()
    inference = prepare_for_inference(copy.deepcopy(localizer), device)
    spec = cell_spec(inference.backbone)
    rows = sample_images(images.targets, seed, objects)
    if localizer.class_agnostic:  # its map does not say which of several classes a cell shows
        rows = [row for row in rows if images.targets[row].sum() <= 1]
    done = 0

    def advance(count: int) -> None:
        nonlocal done
        done += count
        progress(done, len(rows))

    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices), restored_threads():
        torch.set_num_threads(1)  # two threads of a fit wait for each other wherever other programs compute
        torch.manual_seed(seed)
        cells = build_cell_classifier(inference.backbone, images.targets.shape[1], spec).to(device)
        maps = _MapComputer(inference, images, input_size, device, (runtime, precision), threads)
        batches = maps.compute(rows, advance)
        samples = list(_collect(cells, batches, max(1, MAX_CELLS // max(1, len(rows))), seed, objects))
        rounds = round_one(localizer.threshold), _ROUND_TWO
        examples = fit_in_rounds(cells, samples, rounds, device=device, seed=seed)
    record = CellRecord(len(samples), examples or 0, round(time.monotonic() - started, 1))
    if examples is None:
        return CellTraining(None, record, [_NO_EXAMPLES])
    notes = [_ONE_STAGE.format(name=localizer.backbone.name)] if len(spec.stages) == 1 else []
    return CellTraining(cells.cpu().eval(), record, notes)


def round_one(threshold: float) -> tuple[float, float]:
    """Return the lowest value of the foreground and the highest of the background for maps that are cut there."""
    return min(threshold + _ABOVE_THRESHOLD, _HIGHEST_THRESHOLD), threshold - _BELOW_THRESHOLD


def fit_in_rounds(
    cells: CellClassifier,
    samples: Sequence[ImageCells],
    thresholds: Sequence[tuple[float, float]],
    *,
    device: torch.device,
    seed: int,
) -> int | None:
    """Fit the layers to the examples of each round; from the second round on, the classifier itself helps to choose.

    Args:
        cells: The classifier, on the device; its projections are fitted already.
        samples: Cells of each image.
        thresholds: Of each round, see `draw_examples`.
        device: Where to compute.
        seed: Seed of the draws and of each fit.

    Returns:
        Number of examples of the last round; None if a round has no examples of the background, or of any class.
    """
    examples = 0
    for number, limits in enumerate(thresholds):
        activation = [combine(cells, sample, device) if number else sample.activation for sample in samples]
        features, labels = draw_examples(samples, activation, limits, background=cells.classes, seed=seed + number)
        is_background = labels == cells.classes
        if not is_background.any() or is_background.all():
            return None
        fit_layers(cells, features, labels, device=device, seed=seed)
        examples = len(labels)
    return examples


def sample_images(targets: np.ndarray[Any, Any], seed: int, always: Collection[int] = ()) -> list[int]:
    """Draw the images that the classifier is trained on: all of a small corpus, otherwise first those of rare classes.

    Args:
        targets: (n, C) of 0 and 1.
        seed: Seed of the draw.
        always: Indices of images that are drawn before all others.

    Returns:
        Indices in random order: the projections are fitted to the first images, and a listing may be sorted by class.
    """
    count, classes = targets.shape
    limit = max(MAX_IMAGES, IMAGES_PER_CLASS * classes)
    order = np.random.default_rng(seed).permutation(count)
    if count <= limit:
        return [int(row) for row in order]
    per_class = max(1, limit // classes)
    rarest_first = np.argsort(targets.sum(axis=0), kind="stable")
    chosen: dict[int, None] = dict.fromkeys(row for row in order.tolist() if row in always)
    for index in rarest_first:
        chosen.update(dict.fromkeys(order[targets[order, index] > 0][:per_class].tolist()))
    chosen.update(dict.fromkeys(order.tolist()))  # after these, whatever comes first
    return np.random.default_rng(seed).permutation(list(chosen)[:limit]).tolist()


def draw_examples(
    samples: Sequence[ImageCells],
    activation: Sequence[Tensor],
    thresholds: tuple[float, float],
    *,
    background: int,
    seed: int,
) -> tuple[Tensor, Tensor]:
    """Draw examples of the classes and of the background.

    Args:
        samples: Cells of each image.
        activation: (n, K) values in 0-1 of each image.
        thresholds: A cell is an example of the image's class with the highest value if that reaches the first of them,
            and of the background if the values of all classes of the image are below the second. Where true boxes are
            known, they decide instead, see `label_true_cells`.
        background: Label of the background.
        seed: Seed of the draw.

    Returns:
        (m, P) features and (m,) labels.
    """
    generator = torch.Generator().manual_seed(seed)
    features, labels = [], []
    for sample, values in zip(samples, activation, strict=True):
        if sample.true is None:
            label = label_cells(values, sample.classes, thresholds, background)
        else:
            label = label_true_cells(sample.true, values, sample.classes, background)
        used = torch.nonzero(label != UNUSED).flatten()
        drawn = used[torch.randperm(len(used), generator=generator)[: round(EXAMPLE_SHARE * len(used))]]
        features.append(sample.features[drawn])
        labels.append(label[drawn])
    if not samples:
        return torch.zeros(0, 0), torch.zeros(0, dtype=torch.int64)
    return torch.cat(features), torch.cat(labels)


@torch.inference_mode()
def combine(cells: CellClassifier, sample: ImageCells, device: torch.device) -> Tensor:
    """Return the geometric mean of the classifier's probability and the activation, (n, K) in 0-1."""
    if not sample.classes:
        return sample.activation
    logits = cells.eval()(sample.features.to(device).float())[:, [*sample.classes, cells.classes]]
    return (logits.softmax(dim=1)[:, :-1].cpu() * sample.activation).sqrt()


def fit_layers(cells: CellClassifier, features: Tensor, labels: Tensor, *, device: torch.device, seed: int) -> None:
    """Fit the layers of a cell classifier, from new start weights, by cross-entropy weighted by the rarity of classes.

    Args:
        cells: The classifier, on the device; its projections are fitted already.
        features: (m, P) float16 examples.
        labels: (m,) int64.
        device: Where to compute.
        seed: Seed of the start weights, the order and the dropout.
    """
    torch.manual_seed(seed)
    for layer in cells.layers:
        if isinstance(layer, nn.Linear):
            layer.reset_parameters()
    cells.train()
    optimizer = torch.optim.AdamW(cells.layers.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    steps = max(MIN_STEPS, EPOCHS * -(-len(labels) // BATCH_SIZE))
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    weights = rarity_weights(labels, cells.classes + 1).to(device)
    features, labels = features.to(device), labels.to(device)
    with torch.enable_grad():
        for rows in _batches(len(labels), steps, device):
            loss = functional.cross_entropy(cells(features[rows].float()), labels[rows], weight=weights)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
    cells.eval()


def _batches(count: int, steps: int, device: torch.device) -> Iterator[Tensor]:
    """Yield the row numbers of each step, from as many shuffles as it takes."""
    while steps > 0:
        for rows in torch.randperm(count).to(device).split(BATCH_SIZE)[:steps]:  # type: ignore[no-untyped-call]
            yield rows
            steps -= 1


def rarity_weights(labels: Tensor, count: int) -> Tensor:
    """Weight each of `count` labels by the square root of its rarity, within limits: (count,) float32."""
    cells = torch.bincount(labels, minlength=count).float()
    weights = (cells.sum() / count / cells.clamp_min(1)).sqrt()
    return weights.clamp(MIN_CLASS_WEIGHT, MAX_CLASS_WEIGHT)


# --- maps and features -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Batch:
    """Images of one shape: indices, K classes of each, stages (B, D, h, w) on one grid, and class maps (B, K, h, w)."""

    rows: list[int]
    classes: list[list[int]]
    stages: list[Tensor]
    class_maps: Tensor


@torch.no_grad()
def _collect(
    cells: CellClassifier,
    batches: Iterator[_Batch],
    cells_per_image: int,
    seed: int,
    objects: Mapping[int, TrueObjects],
) -> Iterator[ImageCells]:
    """Yield a sample of cells of each image; the projections are fitted to the first images."""
    generator = torch.Generator().manual_seed(seed)
    for batch in _fit_projections_to_first(cells, batches):
        projected = cells.project(batch.stages)
        walk = AffinityWalk(affinity_features(projected))
        features = torch.cat(projected, dim=1).flatten(2).transpose(1, 2).half().cpu()
        activation = walk_class_maps(walk, batch.class_maps).flatten(2).transpose(1, 2).cpu()
        for position, (row, classes) in enumerate(zip(batch.rows, batch.classes, strict=True)):
            drawn = torch.randperm(features.shape[1], generator=generator)[:cells_per_image]
            true = true_cells(objects[row], grid_of(batch.stages))[drawn] if row in objects else None
            yield ImageCells(features[position, drawn], activation[position, drawn, : len(classes)], classes, true)


def _fit_projections_to_first(cells: CellClassifier, batches: Iterator[_Batch]) -> Iterator[_Batch]:
    """Pass on the batches; the first ones wait until there are enough images to fit the projections to."""
    waiting: list[_Batch] = []
    images = size = 0
    for batch in batches:
        waiting.append(batch)
        images += len(batch.classes)
        size += sum(stage.nbytes for stage in batch.stages)
        if images >= PROJECTION_IMAGES or size >= PROJECTION_BYTES:
            break
    if waiting:
        for number, projection in enumerate(cells.projections):
            cells_of_stage = torch.cat([one.stages[number].permute(0, 2, 3, 1).flatten(0, 2) for one in waiting])
            step = max(1, len(cells_of_stage) // PROJECTION_CELLS)
            projection.fit(cells_of_stage[::step], whiten=number == 0)  # type: ignore[operator]
    while waiting:
        yield waiting.pop(0)
    yield from batches


class _MapComputer:
    """Runs a localizer over images, in the runtime of mining.

    On a CPU, each pass has one image and one thread; on a GPU, images of one shape share a pass.

    Args:
        localizer: Prepared for inference; changed.
        images: The images.
        input_size: Shorter side at scale 1, px.
        device: Where to compute.
        asked: What runs the network, and in which precision.
        threads: Number of threads.
    """

    def __init__(
        self,
        localizer: Localizer,
        images: LabelledImages,
        input_size: int,
        device: torch.device,
        asked: tuple[Runtime, Precision],
        threads: int,
    ) -> None:
        self._localizer = localizer
        self._images = images
        self._input_size = input_size
        self._device = device
        self._threads = threads
        self._recorder = StageRecorder(localizer.backbone, cell_spec(localizer.backbone).stages)
        runtime, precision = asked
        if precision == "auto" and device.type != "cuda":
            precision = "float32"  # of bfloat16 it is not known that the classifier learns as much
        self._compute = use_runtime(
            localizer, choose_compute(device, runtime, precision), self._recorder, threads=threads, timer=nullcontext,
            asked=(runtime, precision),
        )  # fmt: skip

    def compute(self, rows: Sequence[int], progress: Callable[[int], None]) -> Iterator[_Batch]:
        """Yield maps and features, on a CPU in the order of the rows; images that cannot be read are left out."""
        on_cpu = self._device.type == "cpu"

        def work(_: int, row: int) -> Prepared | _Batch:
            image = scaled_image(self._images, row, self._input_size)
            return self._run([image]) if on_cpu else image

        with InferenceThreadPool[Prepared | _Batch](self._threads) as pool:
            results = pool.map_ordered(work, rows, ahead=2 * max(self._threads, 1 if on_cpu else _IMAGES_PER_LOAD))
            while some := list(islice(results, 1 if on_cpu else _IMAGES_PER_LOAD)):
                # errors of images are reported by the training itself
                done = [one.result() for one in some if not isinstance(one.exception(), ImageError)]
                yield from (one for one in done if isinstance(one, _Batch))
                yield from map(self._run, group_by_shape([one for one in done if not isinstance(one, _Batch)]))
                progress(len(some))

    @torch.no_grad()  # not inference mode, because some localizers compute gradients inside
    def _run(self, group: Sequence[Prepared]) -> _Batch:
        """Run the localizer over images of one shape."""
        targets = self._images.targets
        classes = [torch.from_numpy(targets[index]).nonzero().flatten().tolist() for index, _ in group]
        pixels = {scale: torch.stack([image[scale] for _, image in group]).to(self._device) for scale in SCALES}
        with self._compute.autocast():
            maps = localize_pyramid(
                self._localizer, pixels, classes=pad_classes(classes).to(self._device), recorder=self._recorder,
                record_scale=FEATURE_SCALE,
            )  # fmt: skip
            stages = on_one_grid(self._recorder.features(pixels[FEATURE_SCALE]))
        class_maps = class_maps_on_grid(maps.levels, grid_of(stages), self._localizer.normalise)
        return _Batch([index for index, _ in group], classes, stages, class_maps)


def group_by_shape(prepared: Sequence[Prepared]) -> list[list[Prepared]]:
    """Group images by their size, in the order of their first images."""
    groups: dict[torch.Size, list[Prepared]] = {}
    for index, pixels in prepared:
        groups.setdefault(pixels[1.0].shape, []).append((index, pixels))
    return list(groups.values())
