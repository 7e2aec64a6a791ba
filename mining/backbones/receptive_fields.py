"""Where the cells of a feature map look in the input image.

Cell (i, j) of a stage looks at the point (start_y + step_y i, start_x + step_x j) of the input: the centre of its
receptive field. It is derived layer by layer. A cell of a layer with kernel size k, stride s, dilation d and padding p
sees the cells s i - p, s i - p + d, ... s i - p + d (k - 1) below it; their middle is s i - p + d (k - 1) / 2. The
"same" padding of TensorFlow depends on the size of the input: a layer of stride 2 pads an even side by one cell more
behind than in front, so that the middles are half a cell farther right and down than an even tiling of the image.

The middle of a kernel is not where a trained network looks, though: training moves the weights within the kernels of
strided layers so that uneven padding is compensated (Alsallakh et al., who show it for ResNets). With the ImageNet
weights of EfficientNet-Lite, features of images and of their mirror images show that the cells of the fourth stage look
1 px from an even tiling, where the middles of the kernels are 7.5 px off. In the last stage, whose stride this package
removes, the compensation remains with nothing left to compensate, so that the cells of Lite0 and Lite1 look 5 to 6 px
farther left and up than an even tiling (not those of Lite2, which is trained on 260 px, where the padding of this layer
is even). So the centre of a kernel is here the mean position of its squared weights, which is about the middle for
random weights.

Reference:
    Alsallakh, Kokhlikyan, Miglani, Yuan, Reblitz-Richardson, "Mind the Pad - CNNs Can Develop Blind Spots", ICLR 2021.
    Araujo, Norris, Sim, "Computing Receptive Fields of Convolutional Neural Networks", Distill 2019.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Self, cast
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from mining.arrays import FloatMap
from mining.backbones.base import Backbone
from mining.backbones.tokens import whole_patches

logger = logging.getLogger(__name__)

_PROBE_PX = 96  # smallest side of the traced input; InceptionV3 takes none much smaller
_SAME = 1e-3  # of a step
_UNTRACEABLE = (RuntimeError, AssertionError, ValueError)  # of a network that takes images of its own size only
_ATEN = torch.ops.aten
_MOVES_CELLS = {_ATEN.permute, _ATEN.transpose, _ATEN.t, _ATEN.roll, _ATEN.flip}


@dataclass(frozen=True)
class CellGrid:
    """The points that the cells of a feature map look at.

    Cell (i, j) looks at (start_y + step_y i, start_x + step_x j), measured from the upper left corner of the image, so
    that the centre of its first pixel is (0.5, 0.5). Units are input px unless stated otherwise.

    Attributes:
        start_y: Of the first row.
        start_x: Of the first column.
        step_y: From row to row.
        step_x: From column to column.
    """

    start_y: float
    start_x: float
    step_y: float
    step_x: float

    @classmethod
    def tiling(cls, size: tuple[float, float], cells: tuple[int, int]) -> Self:
        """Return the grid of cells that divide an image evenly.

        Args:
            size: Height and width of the image.
            cells: Rows and columns.
        """
        step_y, step_x = size[0] / cells[0], size[1] / cells[1]
        return cls(step_y / 2, step_x / 2, step_y, step_x)

    def is_close_to(self, other: Self) -> bool:
        """Return whether the grids differ by less than a thousandth of a step."""
        return (
            abs(self.start_y - other.start_y) < _SAME * other.step_y
            and abs(self.start_x - other.start_x) < _SAME * other.step_x
            and abs(self.step_y / other.step_y - 1) < _SAME / 100
            and abs(self.step_x / other.step_x - 1) < _SAME / 100
        )

    def moved(self, rows: int, columns: int, px: float) -> Self:
        """Return the grid from another cell on, counted from a corner of the image that is moved by `px` in y and x."""
        return type(self)(
            self.start_y + rows * self.step_y + px, self.start_x + columns * self.step_x + px, self.step_y, self.step_x
        )

    def with_centred_rows(self, height: float, rows: int) -> Self:
        """Return the grid moved up or down so that the middle of its rows is the middle of the image.

        Args:
            height: Of the image.
            rows: Number of rows.
        """
        return replace(self, start_y=(height - (rows - 1) * self.step_y) / 2)

    def scaled(self, y: float, x: float) -> Self:
        """Return the same points in other units: `y` and `x` units per unit of this grid."""
        return type(self)(self.start_y * y, self.start_x * x, self.step_y * y, self.step_x * x)


def cell_grid(backbone: Backbone, size: tuple[int, int], stage: int = -1) -> CellGrid | None:
    """Return where the cells of a stage's features look.

    Computed by one pass of a small image, which is repeated for each size modulo the backbone's largest stride, and
    remembered for as long as the backbone has the same `stages`; their weights must not change meanwhile.

    Args:
        backbone: The network; on any device.
        size: Height and width of the input in px.
        stage: Index of the stage.

    Returns:
        None where it is not known, because the network rearranges its cells (windowed transformers) or does not run on
        a small image. Assume then that cells tile the image evenly, see `CellGrid.tiling`.
    """
    if backbone.patch is not None:
        height, width = whole_patches(size, backbone.patch)
        return CellGrid.tiling(size, (height // backbone.patch[0], width // backbone.patch[1]))
    period = max(backbone.strides)
    remainders = size[0] % period, size[1] % period
    stages, grids = _KNOWN.get(backbone, (None, {}))
    if stages is not backbone.stages:
        grids = {}
        _KNOWN[backbone] = (backbone.stages, grids)
    if remainders not in grids:
        # of uneven paddings, only those depend on the size that depend on its remainders
        probe = tuple(remainder + period * -(-(_PROBE_PX - remainder) // period) for remainder in remainders)
        grids[remainders] = _trace(backbone, cast(tuple[int, int], probe))
    return grids[remainders][stage]


def resample_cells(maps: Tensor, grid: CellGrid, target: CellGrid, cells: tuple[int, int]) -> Tensor:
    """Resample maps to the cells of another grid.

    Linear between cells; the outermost cells are continued beyond the border. Where the target is coarser, the cells
    within its step are averaged.

    Args:
        maps: (..., h, w) float.
        grid: Where their cells look.
        target: Where the cells of the result look, in the same units.
        cells: Rows and columns of the result.

    Returns:
        (..., *cells), of the type of the maps.
    """
    rows, columns = (
        torch.tensor(weights).to(maps) for weights in resampling_weights(grid, maps.shape[-2:], target, cells)
    )
    return rows @ maps @ columns.T


def resampling_weights(
    grid: CellGrid, cells: Sequence[int], target: CellGrid, target_cells: Sequence[int]
) -> tuple[FloatMap, FloatMap]:
    """Compute the weights of `resample_cells`, which are rows (H, h) and columns (W, w): rows @ map @ columns.T.

    Args:
        grid: Where the cells of the map look.
        cells: Rows h and columns w of the map.
        target: Where the cells of the result look, in the same units.
        target_cells: Rows H and columns W of the result.
    """
    return (
        _axis_weights(grid.start_y, grid.step_y, cells[0], target.start_y, target.step_y, target_cells[0]),
        _axis_weights(grid.start_x, grid.step_x, cells[1], target.start_x, target.step_x, target_cells[1]),
    )


@lru_cache(maxsize=512)
def _axis_weights(start: float, step: float, count: int, first: float, spacing: float, target_count: int) -> FloatMap:
    places = np.clip((first + spacing * np.arange(target_count) - start) / step, 0, count - 1)
    reach = max(1.0, spacing / step)
    weights = np.maximum(0, 1 - np.abs(places[:, None] - np.arange(count)) / reach)
    result: FloatMap = (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)
    result.flags.writeable = False
    return result


_Grids = tuple[CellGrid | None, ...]
_KNOWN: WeakKeyDictionary[Backbone, tuple[nn.ModuleList, dict[tuple[int, int], _Grids]]] = WeakKeyDictionary()


def _trace(backbone: Backbone, size: tuple[int, int]) -> _Grids:
    """The grid of each stage, found by a pass of an empty image in evaluation mode."""
    some = next(backbone.stages.parameters())
    grids = []
    try:
        with (
            torch.inference_mode(False),  # in which convolutions would pass by the trace
            torch.no_grad(),
            torch.autocast(some.device.type, enabled=False),
            _evaluation_mode(backbone.stages),
            GridTrace(features := some.new_zeros(1, 3, *size)) as trace,
        ):
            for stage in backbone.stages:
                features = stage(features)
                grids.append(trace.grid_of(features))
    except _UNTRACEABLE as error:
        logger.debug("The cells of %s cannot be traced: %s", backbone.name, error)
        return (None,) * len(backbone.stages)
    return tuple(grids)


@contextmanager
def _evaluation_mode(module: nn.Module) -> Iterator[None]:
    """Set evaluation mode in the block, and restore each part's mode after it."""
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for part, mode in modes:
            part.training = mode


class GridTrace(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Follows the grid of a tensor through the operations of the block.

    Convolutions, pools and padding change a grid. Any other operation passes it on to a result with as many rows and
    columns; of several inputs the mean, weighted by channels where they are concatenated. Results of rearranging
    operations have no grid.
    """

    def __init__(self, image: Tensor) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        # tensors are kept, because the id of one that is gone may be given to another
        self._grids = {id(image): (image, CellGrid(0.5, 0.5, 1.0, 1.0))}

    def grid_of(self, tensor: Tensor) -> CellGrid | None:
        """Return the grid of a tensor that the block made."""
        return self._grids.get(id(tensor), (None, None))[1]

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        outputs = [one for one in tree_leaves(result) if isinstance(one, Tensor)]
        if outputs and (grid := self._output_grid(func.overloadpacket, args, outputs[0])) is not None:
            self._grids.update({id(output): (output, grid) for output in outputs})
        return result

    def _output_grid(self, operation: Any, args: tuple[Any, ...], output: Tensor) -> CellGrid | None:
        if operation in _RULES:
            grid = self.grid_of(args[0])
            return None if grid is None else _RULES[operation](grid, *args)
        if output.ndim != 4 or operation in _MOVES_CELLS:
            return None
        inputs = [one for one in tree_leaves(args) if isinstance(one, Tensor) and one.shape[2:] == output.shape[2:]]
        weighted = [
            (grid, one.shape[1] if operation is _ATEN.cat else 1)
            for one in inputs
            if one.ndim == 4 and (grid := self.grid_of(one)) is not None
        ]
        return _mean(weighted) if weighted else None


def _mean(weighted: Sequence[tuple[CellGrid, int]]) -> CellGrid:
    total = sum(weight for _, weight in weighted)
    sides = ("start_y", "start_x", "step_y", "step_x")
    return CellGrid(*(sum(getattr(grid, side) * weight for grid, weight in weighted) / total for side in sides))


# --- the operations that change a grid: its grid and its arguments to that of its result ----------------------------


def _convolve(
    grid: CellGrid, _: Tensor, weight: Tensor, __: Any, stride: Sequence[int], padding: Sequence[int],
    dilation: Sequence[int], transposed: bool, *___: Any,
) -> CellGrid | None:  # fmt: skip
    if transposed or weight.ndim != 4:
        return None
    (stride_y, stride_x), (padding_y, padding_x), (dilation_y, dilation_x) = map(_pair, (stride, padding, dilation))
    centre_y, centre_x = _centre_of_kernel(weight)
    return _stepped(grid, centre_y * dilation_y - padding_y, centre_x * dilation_x - padding_x, stride_y, stride_x)


def _pool(
    grid: CellGrid, _: Tensor, kernel: Sequence[int], stride: Sequence[int] = (), padding: Sequence[int] = (0,),
    *__: Any,
) -> CellGrid:  # fmt: skip
    (rows, columns), (padding_y, padding_x) = _pair(kernel), _pair(padding)
    return _stepped(grid, (rows - 1) / 2 - padding_y, (columns - 1) / 2 - padding_x, *_pair(stride or kernel))


def _pad(grid: CellGrid, _: Tensor, padding: Sequence[int], *__: Any) -> CellGrid:
    left, top = padding[0], padding[2] if len(padding) > 2 else 0
    return _stepped(grid, -top, -left, 1, 1)


def _stepped(grid: CellGrid, first_y: float, first_x: float, stride_y: int, stride_x: int) -> CellGrid:
    """The grid of every stride-th cell, from a position that is given in cells."""
    return CellGrid(
        grid.start_y + first_y * grid.step_y, grid.start_x + first_x * grid.step_x,
        grid.step_y * stride_y, grid.step_x * stride_x,
    )  # fmt: skip


_RULES: dict[Any, Callable[..., CellGrid | None]] = {
    _ATEN.convolution: _convolve,
    _ATEN.max_pool2d_with_indices: _pool,
    _ATEN.avg_pool2d: _pool,
    _ATEN.constant_pad_nd: _pad,
    _ATEN.reflection_pad2d: _pad,
    _ATEN.replication_pad2d: _pad,
}


def _pair(value: Sequence[int]) -> tuple[int, int]:
    return value[0], value[-1]


def _centre_of_kernel(weight: Tensor) -> tuple[float, float]:
    """Mean position of the squared weights of a (O, I, h, w) kernel: row and column.

    Each output channel counts the same, whatever its gain, so that folding a batch norm into it changes nothing.
    """
    if weight.shape[2:] == (1, 1):
        return 0.0, 0.0
    energy = weight.double().square().sum(dim=1)
    energy = (energy / energy.sum(dim=(1, 2), keepdim=True)).nan_to_num(0)  # of a channel without weights
    rows, columns = energy.sum(dim=(0, 2)).tolist(), energy.sum(dim=(0, 1)).tolist()
    return _mean_position(rows), _mean_position(columns)


def _mean_position(energy: Sequence[float]) -> float:
    total = sum(energy)
    return sum(index * one for index, one in enumerate(energy)) / total if total else (len(energy) - 1) / 2
