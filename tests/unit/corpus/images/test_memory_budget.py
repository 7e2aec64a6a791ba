"""Small files that would need much memory or time: they wait, are refused, or can be stopped."""

import io
import struct
import threading
import time
import zlib
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mining.corpus.images import decoding
from mining.corpus.images.decoding import decode_image, full_size, read_image
from mining.corpus.images.image_file import open_image_file
from mining.corpus.images.memory_budget import BUDGET, MemoryBudget, estimate_decode_bytes
from mining.errors import ImageError, ImageReplacedError, RunStoppedError
from mining.runtimes.worker_threads import InferenceThreadPool

MEGABYTE = 1_000_000


@pytest.fixture
def budget(monkeypatch: pytest.MonkeyPatch) -> Iterator[MemoryBudget]:
    """A small budget in place of the shared one."""
    small = MemoryBudget(10 * MEGABYTE)
    monkeypatch.setattr(decoding, "BUDGET", small)
    return small


def wait_until_running(pool: InferenceThreadPool[Any]) -> Future[Any]:
    """Wait until the single worker thread runs its task."""
    (work,) = pool._pending
    while not work.running():
        time.sleep(0.001)
    return work


def cost(path: Path) -> int:
    with open_image_file(path) as file, Image.open(file) as image:
        return estimate_decode_bytes(image, image.size, path.stat().st_size)


@pytest.mark.parametrize(
    ("mode", "name", "bytes_per_pixel"),
    [("L", "a.png", 7), ("RGB", "a.png", 7), ("RGBA", "a.png", 7), ("F", "a.tif", 7), ("RGB", "a.webp", 19)],
)
def test_the_memory_of_decoding_is_estimated_from_the_header(
    tmp_path: Path, mode: str, name: str, bytes_per_pixel: int
) -> None:
    Image.new(mode, (1000, 1000)).save(tmp_path / name)
    size = (tmp_path / name).stat().st_size
    strip = 0 if name != "a.tif" else 10 * MEGABYTE  # how Pillow writes them
    assert bytes_per_pixel * MEGABYTE <= cost(tmp_path / name) <= bytes_per_pixel * MEGABYTE + 2 * size + strip


def test_a_progressive_jpeg_needs_memory_for_all_coefficients_even_if_it_is_reduced(tmp_path: Path) -> None:
    for name, progressive in (("a.jpg", True), ("b.jpg", False)):
        Image.new("RGB", (1000, 1000)).save(tmp_path / name, progressive=progressive)
    assert cost(tmp_path / "a.jpg") - cost(tmp_path / "b.jpg") >= 5 * MEGABYTE


def test_an_image_that_exceeds_the_budget_is_refused_with_the_figures(tmp_path: Path, budget: MemoryBudget) -> None:
    Image.new("RGBA", (2000, 1000)).save(tmp_path / "a.png")
    with pytest.raises(
        ImageError, match=r"a\.png: decoding needs about 0\.0 GB of memory, more than the limit of 0\.01 GB"
    ):
        read_image(tmp_path / "a.png")


def test_all_threads_together_stay_within_the_budget(tmp_path: Path, budget: MemoryBudget) -> None:
    for number in range(8):
        Image.new("RGBA", (600, 1000)).save(tmp_path / f"{number}.png")  # 4.2 MB each: two at a time
    at_work, most = 0, 0
    lock = threading.Lock()

    def work(path: Path) -> None:
        nonlocal at_work, most
        with decode_image(path, full_size):
            with lock:
                at_work += 1
                most = max(most, at_work)
            time.sleep(0.02)
            with lock:
                at_work -= 1

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, sorted(tmp_path.iterdir())))
    assert most == 2


def test_a_failed_decode_releases_its_memory(tmp_path: Path, budget: MemoryBudget) -> None:
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 255, (600, 1000, 3), np.uint8)).save(tmp_path / "a.png")
    data = (tmp_path / "a.png").read_bytes()
    (tmp_path / "a.png").write_bytes(data[: len(data) // 2])
    for _ in range(5):
        with pytest.raises(ImageError, match="truncated"):
            read_image(tmp_path / "a.png")


def test_processes_take_turns_with_large_images() -> None:
    budget = MemoryBudget(80)
    budget.turns = lock = threading.Lock()
    with budget.reserve(10):
        assert not lock.locked()
    with budget.reserve(11):
        assert lock.locked()
    assert not lock.locked()


def test_a_thread_that_waits_for_memory_can_be_stopped(budget: MemoryBudget) -> None:
    with (
        pytest.raises(KeyboardInterrupt),
        InferenceThreadPool[None](1) as pool,
        budget.reserve(budget.limit),
    ):

        def wait() -> None:
            with budget.reserve(1):
                pass

        pool.submit(wait)
        waiting = wait_until_running(pool)
        raise KeyboardInterrupt
    with pytest.raises(RunStoppedError):
        waiting.result(timeout=5)


def tiff_of_tiles(side: int) -> bytes:
    """A TIFF of 10 x 10 pixels with tiles of side x side."""
    data = zlib.compress(bytes(300))
    start = 8 + 2 + 12 * 10 + 4
    tags = [
        (256, 4, 1, 10), (257, 4, 1, 10), (258, 3, 1, 8), (259, 3, 1, 8), (262, 3, 1, 1), (277, 3, 1, 1),
        (322, 4, 1, side), (323, 4, 1, side), (324, 4, 1, start), (325, 4, 1, len(data)),
    ]  # fmt: skip
    entries = b"".join(struct.pack("<HHLL", *tag) for tag in tags)
    return b"II*\0" + struct.pack("<LH", 8, len(tags)) + entries + struct.pack("<L", 0) + data


def test_a_small_tiff_with_huge_tiles_is_refused_by_its_header(tmp_path: Path) -> None:
    (tmp_path / "a.tif").write_bytes(tiff_of_tiles(30_000))
    with pytest.raises(ImageError, match=r"needs about 1\.8 GB of memory"):
        read_image(tmp_path / "a.tif")


def sparse(path: Path, start: bytes, size: int = 900 * MEGABYTE) -> Path:
    with path.open("wb") as file:
        file.write(start)
        file.truncate(size)
    return path


@pytest.mark.parametrize(
    "start",
    [b"", b"\xff\xd8\xff", b"\xff\xd8\xff\xe0\x00\x04ab", b"GIF89a\x08\x00\x08\x00\x00\x00\x00", b"RIFF"],
    ids=["zeros", "JPEG", "JPEG with a segment", "GIF", "RIFF"],
)
def test_a_large_sparse_file_is_refused_at_once(tmp_path: Path, start: bytes) -> None:
    began = time.monotonic()
    with pytest.raises(ImageError, match="not an image"):
        read_image(sparse(tmp_path / "a.jpg", start))
    assert time.monotonic() - began < 2


def test_a_large_file_that_was_replaced_by_junk_is_reported_as_replaced(tmp_path: Path) -> None:
    with pytest.raises(ImageReplacedError, match="changed after it was listed"):
        decoding.read_reduced(sparse(tmp_path / "a.jpg", b"", 2 * MEGABYTE), full_size, "0" * 64)


def test_reading_a_large_file_stops_when_the_run_is_stopped(tmp_path: Path) -> None:
    file = io.BytesIO()
    Image.new("RGB", (8, 8)).save(file, "JPEG")
    path = sparse(tmp_path / "a.jpg", file.getvalue(), 700 * MEGABYTE)
    with pytest.raises(KeyboardInterrupt), InferenceThreadPool[object](1) as pool:
        pool.submit(read_image, path)
        reading = wait_until_running(pool)
        raise KeyboardInterrupt
    with pytest.raises(RunStoppedError):
        reading.result(timeout=10)


def test_a_jpeg_with_too_many_scans_is_refused(tmp_path: Path) -> None:
    file = io.BytesIO()
    Image.new("RGB", (64, 64), "teal").save(file, "JPEG", progressive=True)
    data = file.getvalue()
    last = data.rindex(b"\xff\xda")
    (tmp_path / "a.jpg").write_bytes(data[:last] + data[last:-2] * 600 + data[-2:])
    with pytest.raises(ImageError, match="more than 500 scans"):
        read_image(tmp_path / "a.jpg")


def text_bomb() -> bytes:
    """A PNG whose texts and colour profile decompress to 200 MB."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">L", len(body)) + kind + body + struct.pack(">L", zlib.crc32(kind + body))

    packed = zlib.compress(bytes(50 * MEGABYTE))
    file = io.BytesIO()
    Image.new("RGB", (8, 8)).save(file, "PNG")
    data = file.getvalue()
    first = data.index(b"IDAT") - 4
    texts = b"".join(chunk(b"zTXt", b"note%d\0\0" % number + packed) for number in range(3))
    return data[:first] + chunk(b"iCCP", b"profile\0\0" + packed) + texts + data[first:]


def test_compressed_metadata_is_not_decompressed_without_limit(tmp_path: Path) -> None:
    import tracemalloc

    (tmp_path / "a.png").write_bytes(text_bomb())
    tracemalloc.start()
    with pytest.raises(ImageError):
        read_image(tmp_path / "a.png")
    assert tracemalloc.get_traced_memory()[1] < 20 * MEGABYTE
    tracemalloc.stop()


def test_all_modules_share_one_budget() -> None:
    assert decoding.BUDGET is BUDGET
