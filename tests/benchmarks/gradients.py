"""Localizers against the forward pass of their backbone, and gradient methods against other packages.

On the GPU if there is one, otherwise on the CPU; one class per image. All use the same network with folded batch norms; the other packages as documented,
with parameters that require gradients. Weights are random where they would have to be downloaded.
"""

import copy
from collections.abc import Callable
from importlib.util import find_spec

import torch
from measuring import Figure, compare_alternately, describe_device

from mining.backbones.build import build
from mining.localizers.base import Localizer
from mining.localizers.gradient import GradientLocalizer
from mining.localizers.loading import localizer_named
from mining.models.fuse_batchnorm import prepare_for_inference

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
BUNDLED = {"efficientnet_lite0"}  # backbones whose weights come with a package
CLASSES = 20
SIDE_PX = 224
PEERS = {"grad-cam": "pytorch_grad_cam", "torchcam": "torchcam"}  # package and module
FASTER_THAN_GRAD_CAM = 2.5
BATCH = 4
ROUNDS = {"vgg16": 7, "resnet50": 10, "efficientnet_lite0": 20}  # more for shorter passes

IMAGES = torch.randint(
    0, 256, (BATCH, 3, SIDE_PX, SIDE_PX), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
).to(DEVICE)
LABELS = torch.arange(BATCH, device=DEVICE)[:, None]


def cam_over_forward(backbone: str, goal: float) -> Figure:
    """Activation maps without gradients over the forward pass."""
    localizer = build_localizer_for_mining("cam", backbone)
    ratio, seconds, passed = compare(maps_by(localizer), forward_of(localizer), ROUNDS[backbone])
    return Figure(ratio, goal, "ratio", describe_time(seconds, passed))


def gradcampp_over_forward(backbone: str, goal: float) -> Figure | str:
    """Grad-CAM++ at the last stage over the forward pass."""
    return over_forward("gradcampp", backbone, goal)


def msrd_over_forward(backbone: str, goal: float) -> Figure | str:
    """MSRD at the last stages of strides 8 and 16 over the forward pass; of other packages, Grad-CAM++ there.

    Stride 8 comes before the last three of VGG16's convolutions, but before two thirds of ResNet50's and
    EfficientNet-Lite0's multiplications, through which a backward pass takes at least as long as a forward pass.
    """
    return over_forward("msrd", backbone, goal)


def over_forward(method: str, backbone: str, goal: float) -> Figure | str:
    """A gradient method over the forward pass, and other packages at the same stages in the same run."""
    missing = [name for name, module in PEERS.items() if find_spec(module) is None]
    if missing:
        return f"needs {' and '.join(missing)}"
    localizer = build_localizer_for_mining(method, backbone)
    assert isinstance(localizer, GradientLocalizer)
    forward, rounds = forward_of(localizer), ROUNDS[backbone]
    ratio, seconds, passed = compare(maps_by(localizer), forward, rounds)
    least = compare(backward_alone(localizer), forward, rounds)[0]
    peers = {"grad-cam": grad_cam(localizer), "torchcam": torchcam(localizer)}
    times = {name: compare(peer, forward, rounds)[0] for name, peer in peers.items()}
    detail = (
        f"{describe_time(seconds, passed)}; forward and backward alone {least:.2f}, "
        + ", ".join(f"{name} {slower:.1f}" for name, slower in times.items())
        + " times the forward pass"
    )
    missed = times["grad-cam"] < FASTER_THAN_GRAD_CAM * ratio
    return Figure(ratio, goal, "ratio", detail + (" MISSED" if missed else ""))


def compare(first: Callable[[], object], second: Callable[[], object], rounds: int) -> tuple[float, float, float]:
    """Compare two functions, each with the work that it queues on the device."""
    return compare_alternately(completed(first), completed(second), rounds)


def completed(function: Callable[[], object]) -> Callable[[], object]:
    def run() -> object:
        result = function()
        if DEVICE.type == "cuda":
            torch.cuda.synchronize()
        return result

    return run


def build_localizer_for_mining(method: str, backbone: str) -> Localizer:
    """Build a localizer as mining does, with a random head."""
    torch.manual_seed(0)
    network = build(backbone, weights="imagenet" if backbone in BUNDLED else "none")[0]
    return prepare_for_inference(localizer_named(method)(network, CLASSES), DEVICE)


def forward_of(localizer: Localizer) -> Callable[[], object]:
    def forward() -> object:
        with torch.inference_mode():
            return localizer.backbone(IMAGES)

    return forward


def maps_by(localizer: Localizer) -> Callable[[], object]:
    def localize() -> object:
        with torch.no_grad() if localizer.needs_gradients else torch.inference_mode():
            return localizer.localize(IMAGES, LABELS)

    return localize


def backward_alone(localizer: GradientLocalizer) -> Callable[[], object]:
    """Build a function that runs forward and back to the lowest stage that is read, without a map."""

    def forward_and_backward() -> object:
        activations, logits = localizer.trace(IMAGES)
        return torch.autograd.grad(logits.sum(), activations[0])

    return forward_and_backward


def grad_cam(localizer: GradientLocalizer) -> Callable[[], object]:
    """Grad-CAM++ of the package grad-cam, on a copy of the network."""
    from pytorch_grad_cam import GradCAMPlusPlus
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    network = copy.deepcopy(localizer).requires_grad_()
    method = GradCAMPlusPlus(network, [network.backbone.stages[number] for number in localizer.stages_read()])
    targets = [ClassifierOutputTarget(label) for label in LABELS[:, 0].tolist()]
    return lambda: method(IMAGES, targets)


def torchcam(localizer: GradientLocalizer) -> Callable[[], object]:
    """Grad-CAM++ of the package torchcam, on a copy of the network."""
    from torchcam.methods import GradCAMpp

    network = copy.deepcopy(localizer).requires_grad_()
    method = GradCAMpp(network, [network.backbone.stages[number] for number in localizer.stages_read()])

    def fused() -> object:
        return method.fuse_cams(method(LABELS[:, 0].tolist(), network(IMAGES)))

    return fused


def describe_time(seconds: float, passed: float) -> str:
    count = len(IMAGES)
    return f"{describe_device(DEVICE)}: {1000 * seconds / count:.1f} ms per image, forward {1000 * passed / count:.1f}"
