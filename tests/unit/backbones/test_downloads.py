"""Weights that cannot be downloaded: the error is one sentence, comes soon, and nothing else is printed."""

import socket
import time
import urllib.error
from pathlib import Path
from typing import Any

import pytest
import torchvision
from huggingface_hub import constants

from mining.backbones.build import build
from mining.backbones.downloads import can_connect
from mining.errors import ModelError


def test_timm_weights_without_a_network_fail_soon_with_one_sentence(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", "https://127.0.0.1:9")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    started = time.monotonic()
    with pytest.raises(ModelError, match=r"weights of resnet18 could not be downloaded .*--weights FILE"):
        build("resnet18", weights="imagenet")
    assert time.monotonic() - started < 15
    assert capfd.readouterr() == ("", "")
    assert constants.HF_HUB_OFFLINE is False


def test_torchvision_weights_without_a_network_fail_with_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    timeouts = []

    def unreachable(*_: Any, **__: Any) -> None:
        print("Downloading")
        timeouts.append(socket.getdefaulttimeout())
        raise urllib.error.URLError("no such host")

    monkeypatch.setattr(torchvision.models.ResNet50_Weights.IMAGENET1K_V1.__class__, "get_state_dict", unreachable)
    with pytest.raises(ModelError, match=r"weights of resnet50 could not be downloaded .*no such host"):
        build("resnet50", weights="imagenet")
    assert timeouts[0] is not None
    assert socket.getdefaulttimeout() is None
    assert capfd.readouterr().out == "", "stdout is for answers"


def test_a_connection_is_tested_through_the_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as proxy:
        monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{proxy.getsockname()[1]}")
        monkeypatch.delenv("no_proxy", raising=False)
        monkeypatch.delenv("NO_PROXY", raising=False)
        assert can_connect("nowhere.invalid", 443)
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    assert not can_connect("nowhere.invalid", 443)
