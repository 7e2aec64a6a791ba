"""Why an image's labels are not what mining it now would give."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from mining.config import MineOptions, setting_or_default
from mining.label_store.diff import StalenessFn
from mining.storage.integrity import digest_of

_FOR_UNLABELLED_IMAGES = {"class_cut", "max_classes", "object_boxes"}
_LATER_SETTINGS = {
    "classes",
    "map",
    "object_boxes",
}  # left out if empty: digests from before there were any stay the same
Labels = Sequence[str] | None


def settings_that_matter(options: MineOptions) -> dict[str, Any]:
    """Return the settings that boxes depend on."""
    dumped = options.model_dump(mode="json", include=set(MineOptions.model_fields))
    return {name: dumped[name] for name in sorted(dumped) if dumped[name] or name not in _LATER_SETTINGS}


def changed_settings(before: Mapping[str, Any], now: Mapping[str, Any], labels: Labels) -> list[str]:
    """Return the settings that changed and that the boxes of an image depend on.

    Args:
        before: Settings that the image was mined with.
        now: Current settings.
        labels: Labels of the image; None = unknown.
    """
    names = [name for name in sorted({*now, *_LATER_SETTINGS}) if labels is None or name not in _FOR_UNLABELLED_IMAGES]
    return [
        name
        for name in names
        if _effective_value(setting_or_default(MineOptions, before, name), labels)
        != _effective_value(setting_or_default(MineOptions, now, name), labels)
    ]


def _effective_value(value: Any, labels: Labels) -> Any:
    # of a setting per class, only the image's own classes matter
    return {name: value[name] for name in labels if name in value} if isinstance(value, dict) and labels else value


def staleness(
    model: str, settings: Mapping[str, Any], recorded_settings: Mapping[str, Mapping[str, Any]]
) -> StalenessFn:
    """Return a function that says why an image must be mined again, and None if it need not be.

    Args:
        model: SHA-256 of the current model's weights.
        settings: Current settings.
        recorded_settings: Settings of earlier versions, by digest.

    Returns:
        A function of the image's model, the digest of its settings, and its labels (None = unknown).
    """
    digest = digest_of(settings)

    @lru_cache(maxsize=100_000)  # most of millions of images share model, settings and labels
    def reason(image_model: str, image_settings: str, labels: tuple[str, ...] | None) -> str | None:
        if labels is not None and not labels:
            return None  # known to show none of the classes, whatever the model
        if image_model != model:
            return "another model"
        if image_settings == digest:
            return None
        if image_settings not in recorded_settings:
            return "unknown settings"
        changed = changed_settings(recorded_settings[image_settings], settings, labels)
        return f"another {', '.join(changed)}" if changed else None

    return lambda image_model, image_settings, labels: reason(
        image_model, image_settings, None if labels is None else tuple(labels)
    )
