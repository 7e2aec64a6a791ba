"""A small DINOv3 for tests, by the name `small_dinov3`: rotary positions, class token and 4 registers, 4 blocks."""

from typing import Any

from timm.models import register_model
from timm.models.eva import Eva

default_cfgs: dict[str, Any] = {}


@register_model
def small_dinov3(pretrained: bool = False, num_classes: int = 0, **_: Any) -> Eva:
    """Build it with random weights."""
    assert not pretrained
    network = Eva(
        img_size=64, patch_size=16, num_classes=num_classes, embed_dim=64, depth=4, num_heads=2, qkv_bias=False,
        init_values=0.1, rope_type="dinov3", rope_temperature=100, rope_rotate_half=True, use_rot_pos_emb=True,
        use_abs_pos_emb=False, num_reg_tokens=4, use_fc_norm=False, dynamic_img_size=True,
    )  # fmt: skip
    network.pretrained_cfg = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225), "input_size": (3, 64, 64)}
    return network
