"""Plain transformers of timm as backbones: stages, positions, cells and published weights."""

from functools import cache
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional

from mining.backbones.base import Backbone
from mining.backbones.build import build
from mining.backbones.receptive_fields import cell_grid
from mining.backbones.registry import TRANSFORMERS, spec_of
from mining.backbones.timm_networks import timm_licence
from mining.backbones.tokens import cells_of, pack_tokens, prefix_of, unpack_tokens, whole_patches, with_cells
from mining.errors import ModelError

DINOV2, DINOV3, CLIP = "vit_small_patch14_reg4_dinov2", "vit_small_patch16_dinov3", "vit_xsmall_patch16_clip_224"
# class token alone; register without class token and fc_norm; attention pooling; both kinds of token; rotary positions
NETWORKS = ("test_vit", "test_vit2", "test_vit3", DINOV2, DINOV3, CLIP)


def picture(height: int, width: int, count: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, 3, height, width), dtype=torch.uint8, generator=generator)


@cache
def pair(name: str) -> tuple[Backbone, Any]:
    """The backbone, and timm's network with the same random weights."""
    torch.manual_seed(0)
    backbone, _ = build(name)
    torch.manual_seed(0)
    return backbone.eval(), timm.create_model(name, num_classes=0, dynamic_img_size=True).eval()


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("size", [(224, 224), (120, 203)])
def test_stages_are_the_outputs_of_timms_blocks(name: str, size: tuple[int, int]) -> None:
    backbone, network = pair(name)
    image = picture(*size)
    with torch.no_grad():
        found = backbone(image)
        whole = whole_patches(size, backbone.patch)
        resized = functional.interpolate(backbone.normalise(image), whole, mode="bilinear")
        blocks = network.forward_intermediates(resized, intermediates_only=True)
        tokens = network.forward_features(resized)
    ends = [round(len(blocks) * share / 4) - 1 for share in (1, 2, 3)]
    for stage, block in zip(found, ends, strict=False):
        assert torch.allclose(stage, blocks[block], atol=1e-5)
    normed = network.fc_norm(tokens) if network.norm.__class__ is torch.nn.Identity else tokens
    last = normed[:, network.num_prefix_tokens :]
    assert torch.allclose(found[-1].flatten(2).transpose(1, 2), last, atol=1e-5)
    assert {tuple(stage.shape[2:]) for stage in found} == {
        tuple(w // p for w, p in zip(whole, backbone.patch, strict=True))
    }


@pytest.mark.parametrize("name", NETWORKS)
def test_four_stages_have_the_stride_of_a_patch(name: str) -> None:
    backbone, network = pair(name)
    patch = network.patch_embed.patch_size[0]
    assert backbone.strides == (patch,) * 4
    assert backbone.channels == (network.embed_dim,) * 4
    assert backbone.prefix_tokens == network.num_prefix_tokens
    assert backbone.normalisation["mean"] == list(network.pretrained_cfg["mean"])


def test_a_windowed_transformer_stays_one_stage() -> None:
    assert len(build("swin_tiny_patch4_window7_224")[0].stages) == 1


@pytest.mark.parametrize(("name", "has_class_token"), [("test_vit", True), ("test_vit2", False), (DINOV3, True)])
def test_the_vector_of_an_image_is_its_class_token_or_the_mean_of_its_cells(name: str, has_class_token: bool) -> None:
    backbone, network = pair(name)
    image = picture(96, 128, count=2)
    with torch.no_grad():
        features = backbone.normalise(image)
        for stage in backbone.stages:
            features = stage(features)
        found = backbone.image_vector(features)
        tokens = network.forward_features(backbone.normalise(image))
        if not has_class_token:
            tokens = network.fc_norm(tokens)
    expected = tokens[:, 0] if has_class_token else tokens[:, network.num_prefix_tokens :].mean(dim=1)
    assert torch.allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_recommended_transformers_are_as_timm_records_them(name: str) -> None:
    entry = TRANSFORMERS[name]
    with torch.device("meta"):
        backbone, _ = build(name)
        network = timm.create_model(name, num_classes=0, pretrained=False)
    assert timm_licence(name) == entry.licence
    assert sum(value.numel() for value in network.parameters()) / 1e6 == pytest.approx(entry.parameters, abs=0.05)
    assert backbone.patch == (entry.patch, entry.patch)
    assert spec_of(name).input_size == entry.input_size


# --- where cells look ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(224, 224), (120, 203), (233, 97)])
@pytest.mark.parametrize("name", ["test_vit", DINOV2])
def test_a_cell_sees_the_point_that_the_grid_says(name: str, size: tuple[int, int]) -> None:
    backbone, _ = pair(name)
    grid = cell_grid(backbone, size)
    assert grid is not None
    black = torch.zeros(1, 3, *size)
    rows, columns = tokens_grid(backbone, black).shape[2:]
    for row, column in ((0, 0), (1, 3), (rows - 1, columns - 1)):
        y, x = grid.start_y + row * grid.step_y, grid.start_x + column * grid.step_x
        image = black.clone()
        image[..., int(y), int(x)] = 255
        change = (tokens_grid(backbone, image) - tokens_grid(backbone, black)).abs().sum(dim=1)[0]
        assert divmod(int(change.argmax()), columns) == (row, column)


def test_the_cells_of_an_image_end_with_it() -> None:
    backbone, _ = pair(DINOV2)
    grid = cell_grid(backbone, (100, 203))
    assert grid is not None
    assert (grid.start_y + 6.5 * grid.step_y, grid.start_x + 14.5 * grid.step_x) == pytest.approx((100, 203))
    assert (grid.step_y, grid.step_x) == pytest.approx((100 / 7, 203 / 15))


def tokens_grid(backbone: Backbone, image: Tensor) -> Tensor:
    """The patches before the first block, (1, D, h, w)."""
    stem = backbone.stages[0].stem
    with torch.no_grad():
        tokens, grid = stem(backbone.normalise(image))
    return tokens[:, backbone.prefix_tokens :].transpose(1, 2).unflatten(2, grid)


# --- tokens as maps --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("prefix", [0, 1, 5, 7])
@pytest.mark.parametrize("grid", [(3, 4), (2, 7), (1, 1)])
def test_tokens_survive_being_a_map(prefix: int, grid: tuple[int, int]) -> None:
    tokens = torch.randn(2, prefix + grid[0] * grid[1], 3, generator=torch.Generator().manual_seed(1))
    features = pack_tokens(tokens, grid, prefix)
    again, size = unpack_tokens(features, prefix)
    assert size == grid
    assert torch.equal(again, tokens)
    cells = tokens[:, prefix:].transpose(1, 2).reshape(2, 3, *grid)
    assert torch.equal(cells_of(features, prefix), cells)
    assert torch.equal(prefix_of(features, prefix), tokens[:, :prefix])
    doubled = with_cells(features, 2 * cells, prefix)
    assert torch.equal(cells_of(doubled, prefix), 2 * cells)
    assert torch.equal(prefix_of(doubled, prefix), tokens[:, :prefix])


# --- weights from files ----------------------------------------------------------------------------------------------


def network_of(name: str) -> Any:
    torch.manual_seed(7)
    return timm.create_model(name, num_classes=0)


def dinov2_release(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The names of DINOv2's own files: the class token has a position, registers have none."""
    release = dict(state)
    position = torch.full_like(release["cls_token"], 0.25)
    release["register_tokens"] = release.pop("reg_token")
    release["cls_token"] = release["cls_token"] - position
    release["pos_embed"] = torch.cat([position, release["pos_embed"]], dim=1)
    return release | {"mask_token": torch.zeros(1, state["cls_token"].shape[-1])}


def dinov3_release(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The names of DINOv3's own files."""
    release = {}
    for name, value in state.items():
        renamed = name.replace("reg_token", "storage_tokens").replace("gamma_1", "ls1.gamma")
        release[renamed.replace("gamma_2", "ls2.gamma")] = value
    width = state["cls_token"].shape[-1]
    unused = {f"blocks.{block}.attn.qkv.bias": torch.zeros(3 * width) for block in range(12)}
    return release | unused | {"mask_token": torch.zeros(1, width), "rope_embed.periods": torch.zeros(16)}


def openclip(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The names of a CLIP model of OpenCLIP with an image encoder of timm."""
    return {f"visual.trunk.{name}": value for name, value in state.items()} | {"logit_scale": torch.tensor(1.0)}


PUBLISHED = [
    (DINOV2, dict), (DINOV2, dinov2_release), (DINOV3, dict), (DINOV3, dinov3_release), (CLIP, openclip),
]  # fmt: skip


# the format of the file and the names in it are read one after the other
@pytest.mark.parametrize(
    ("name", "publish", "suffix"), [*((*one, ".pth") for one in PUBLISHED), (DINOV2, dict, ".safetensors")]
)
def test_published_weights_are_read_from_a_file(
    name: str, publish: Any, suffix: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    network = network_of(name)
    state = {key: value.contiguous() for key, value in publish(network.state_dict()).items()}
    path = tmp_path / f"weights{suffix}"
    save_file(state, path) if suffix == ".safetensors" else torch.save(state, path)
    expected, _ = build(name, weights=str(save(tmp_path, network)))
    found, _ = build(name, weights=str(path))
    assert capsys.readouterr().out == ""
    image = picture(64, 96)
    with torch.no_grad():
        assert torch.allclose(found.eval()(image)[-1], expected.eval()(image)[-1], atol=1e-5)
        assert not torch.allclose(found(image)[-1], build(name)[0].eval()(image)[-1], atol=1e-2)


def save(folder: Path, network: Any) -> Path:
    torch.save(network.state_dict(), folder / "timm.pth")
    return folder / "timm.pth"


def test_positions_of_another_image_size_are_resampled(tmp_path: Path) -> None:
    larger = timm.create_model("test_vit", num_classes=0, img_size=224)
    torch.save(larger.state_dict(), tmp_path / "w.pth")
    backbone, _ = build("test_vit", weights=str(tmp_path / "w.pth"))
    assert backbone.stages[0].stem.pos_embed.shape == (1, 101, 64)


@pytest.mark.parametrize(
    "content", [{"a": torch.zeros(3)}, {"mask_token": torch.zeros(3)}, {"pos_embed": torch.zeros(3)}]
)
def test_weights_of_another_kind_are_refused(content: dict[str, Tensor], tmp_path: Path) -> None:
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(ModelError, match=f"do not fit the backbone {DINOV2}"):
        build(DINOV2, weights=str(tmp_path / "w.pth"))


def test_weights_of_another_size_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="do not fit the backbone test_vit4: the file lacks"):
        build("test_vit4", weights=str(save(tmp_path, network_of("test_vit2"))))
