"""Whether an image's labels are still what mining it now would give, and why not."""

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from mining.config import MineOptions, setting_or_default
from mining.storage.integrity import digest_of

_FOR_PREDICTED = {"class_cut", "max_classes"}
Reason = str


def settings_that_matter(options: MineOptions) -> dict[str, Any]:
    """Those that boxes depend on."""
    dumped = options.model_dump(mode="json", include=set(MineOptions.model_fields))
    return {name: dumped[name] for name in sorted(dumped)}


def differences(was: Mapping[str, Any], now: Mapping[str, Any], labels: Sequence[str] | None) -> list[str]:
    """The settings that differ and that boxes of an image with these labels depend on. labels: None = not known."""
    names = [name for name in now if _matters(name, labels)]
    return [
        name for name in names if _seen(setting_or_default(MineOptions, was, name), labels) != _seen(now[name], labels)
    ]


def _matters(name: str, labels: Sequence[str] | None) -> bool:
    return labels is None or name not in _FOR_PREDICTED


def _seen(value: Any, labels: Sequence[str] | None) -> Any:
    # of what is set class by class, only an image's own classes count
    return {name: value[name] for name in labels if name in value} if isinstance(value, dict) and labels else value


def staleness(
    model: str, settings: Mapping[str, Any], recorded_settings: Mapping[str, Mapping[str, Any]]
) -> Callable[[str, str, Sequence[str] | None], Reason | None]:
    """A function of an image's model, settings digest and labels: why it must be mined again, None where not.

    model, settings: of now. recorded_settings: those of earlier versions, by digest.
    """
    digest = digest_of(settings)

    @lru_cache(maxsize=100_000)  # of millions of images, most have what others have
    def reason(its_model: str, its_settings: str, labels: tuple[str, ...] | None) -> Reason | None:
        if labels is not None and not labels:
            return None  # known to hold nothing, whoever looks
        if its_model != model:
            return "another model"
        if its_settings == digest:
            return None
        if its_settings not in recorded_settings:
            return "unknown settings"
        changed = differences(recorded_settings[its_settings], settings, labels)
        return f"another {', '.join(changed)}" if changed else None

    return lambda its_model, its_settings, labels: reason(
        its_model, its_settings, None if labels is None else tuple(labels)
    )
