"""Localizers against the bare forward pass of their backbone, and gradient methods against other packages.

On the CPU, one class an image. All are given one network, its batch norms folded; the packages as their documentation
has it, with parameters that require gradients. Weights are random where they would have to be downloaded.
"""

import copy
from collections.abc import Callable
from importlib.util import find_spec

import torch
from measuring import Figure, device_in_words, in_turns

from mining.backbones.base import build
from mining.engine.forward import BATCH_ON_CPU
from mining.localizers.base import Localizer
from mining.localizers.gradient import GradientLocalizer
from mining.localizers.registry import localizer_named
from mining.models.fuse_batchnorm import prepare_for_inference

CPU = torch.device("cpu")
BUNDLED = {"efficientnet_lite0"}  # backbones whose weights come with a package
CLASSES = 20
SIDE_PX = 224
PEERS = {"grad-cam": "pytorch_grad_cam", "torchcam": "torchcam"}  # and the module that each is
FASTER_THAN_GRAD_CAM = 2.5
ROUNDS = {"vgg16": 7, "resnet50": 10, "efficientnet_lite0": 20}  # the shorter a pass, the more

IMAGES = torch.randint(
    0, 256, (BATCH_ON_CPU, 3, SIDE_PX, SIDE_PX), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
)
LABELS = torch.arange(BATCH_ON_CPU)[:, None]


def cam_over_forward(backbone: str, goal: float) -> Figure:
    """Activation maps without a gradient."""
    localizer = made_ready("cam", backbone)
    ratio, seconds, passed = in_turns(maps_by(localizer), forward_of(localizer), ROUNDS[backbone])
    return Figure(ratio, goal, "ratio", in_words(seconds, passed))


def gradcampp_over_forward(backbone: str, goal: float) -> Figure | str:
    """Grad-CAM++ at the last stage."""
    return over_forward("gradcampp", backbone, goal)


def msrd_over_forward(backbone: str, goal: float) -> Figure | str:
    """MSRD at the last stages of strides 8 and 16; of the packages, Grad-CAM++ there.

    Stride 8 comes before the last three of VGG16's convolutions, but before two thirds of ResNet50's and
    EfficientNet-Lite0's multiplications, through which a backward pass takes at least as long as a forward pass.
    """
    return over_forward("msrd", backbone, goal)


def over_forward(method: str, backbone: str, goal: float) -> Figure | str:
    """A gradient method over the forward pass; other packages at the same stages in the same run."""
    missing = [name for name, module in PEERS.items() if find_spec(module) is None]
    if missing:
        return f"needs {' and '.join(missing)}"
    localizer = made_ready(method, backbone)
    assert isinstance(localizer, GradientLocalizer)
    forward, rounds = forward_of(localizer), ROUNDS[backbone]
    ratio, seconds, passed = in_turns(maps_by(localizer), forward, rounds)
    least = in_turns(backward_alone(localizer), forward, rounds)[0]
    peers = {"grad-cam": grad_cam(localizer), "torchcam": torchcam(localizer)}
    times = {name: in_turns(peer, forward, rounds)[0] for name, peer in peers.items()}
    detail = (
        f"{in_words(seconds, passed)}; bare backward included {least:.2f}, "
        + ", ".join(f"{name} {slower:.1f}" for name, slower in times.items())
        + " times the forward pass"
    )
    missed = times["grad-cam"] < FASTER_THAN_GRAD_CAM * ratio
    return Figure(ratio, goal, "ratio", detail + (" MISSED" if missed else ""))


def made_ready(method: str, backbone: str) -> Localizer:
    """The localizer as it mines, with a random head."""
    torch.manual_seed(0)
    network = build(backbone, weights="imagenet" if backbone in BUNDLED else "none")[0]
    return prepare_for_inference(localizer_named(method)(network, CLASSES), CPU)


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
    """Forward, and back to the lowest stage read; no map is made of it."""

    def there_and_back() -> object:
        activations, logits = localizer.trace(IMAGES)
        return torch.autograd.grad(logits.sum(), activations[0])

    return there_and_back


def grad_cam(localizer: GradientLocalizer) -> Callable[[], object]:
    """Grad-CAM++ of the package grad-cam, on a copy of the network."""
    from pytorch_grad_cam import GradCAMPlusPlus
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    network = copy.deepcopy(localizer)
    method = GradCAMPlusPlus(network, [network.backbone.stages[number] for number in localizer.stages_read()])
    targets = [ClassifierOutputTarget(label) for label in LABELS[:, 0].tolist()]
    return lambda: method(IMAGES, targets)


def torchcam(localizer: GradientLocalizer) -> Callable[[], object]:
    """Grad-CAM++ of the package torchcam, on a copy of the network."""
    from torchcam.methods import GradCAMpp

    network = copy.deepcopy(localizer)
    method = GradCAMpp(network, [network.backbone.stages[number] for number in localizer.stages_read()])

    def fused() -> object:
        return method.fuse_cams(method(LABELS[:, 0].tolist(), network(IMAGES)))

    return fused


def in_words(seconds: float, passed: float) -> str:
    count = len(IMAGES)
    return f"{device_in_words(CPU)}: {1000 * seconds / count:.1f} ms an image, forward {1000 * passed / count:.1f}"
