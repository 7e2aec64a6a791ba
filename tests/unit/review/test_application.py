"""The application over HTTP: who may use it, what it answers, and what reaches the file system."""

import errno
import socket
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from flows.cli.application import run_command
from mining.reporting import thumbnails
from mining.review.access import Access
from mining.review.application import build_application
from mining.review.pictures import SIDES, PictureFolder, Pictures
from mining.review.reviews import Reviews, RunToReview
from mining.review.session import ReviewSession
from mining.runs.run import Run
from tests.unit.review.review_run import photos, write_review_run

SHOWN = {"kind": "box", "number": 1}


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return write_review_run(tmp_path, photos(4))


def client_of(run: Run, tmp_path: Path, host: str = "127.0.0.1") -> tuple[TestClient, Access]:
    access = Access.for_address(host, 8770)
    reviews = Reviews([RunToReview(run.path, run.name)], PictureFolder(tmp_path / "cache"))
    app = build_application(reviews, access)
    return TestClient(app, base_url=f"http://{host}:8770", raise_server_exceptions=False), access


@pytest.fixture
def client(run: Run, tmp_path: Path) -> TestClient:
    return client_of(run, tmp_path)[0]


def test_page_and_assets_are_there_and_allow_no_other_source(client: TestClient) -> None:
    for path, kind in (
        ("/", "text/html"),
        ("/assets/review.js", "text/javascript"),
        ("/assets/review.css", "text/css"),
    ):
        answer = client.get(path)
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith(kind)
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff"


def test_a_verdict_is_recorded_and_counted(client: TestClient) -> None:
    assert client.post("/api/draw", json={"boxes": 3}).json() == {"boxes": 3, "images": 0}
    item = client.get("/api/next", params={"queue": "plan", "reviewer": "Ada"}).json()["item"]
    shown = {name: item[name] for name in ("kind", "number", "plan", "why")}
    assert (
        client.post("/api/verdicts", json={"shown": shown, "reviewer": "Ada", "verdict": "correct"}).status_code == 200
    )
    assert client.get("/api/progress", params={"queue": "plan"}).json() == {"done": 1, "all": 3}
    assert client.post("/api/take-back", json={"shown": shown, "reviewer": "Ada"}).status_code == 200
    assert client.get("/api/progress", params={"queue": "plan"}).json() == {"done": 0, "all": 3}


def test_a_picture_is_read_by_its_number_alone(client: TestClient, run: Run, tmp_path: Path) -> None:
    answer = client.get(f"/api/images/102/{SIDES[1]}.jpg")
    assert answer.headers["content-type"] == "image/jpeg"
    (tmp_path / "got.jpg").write_bytes(answer.content)
    assert Image.open(tmp_path / "got.jpg").size == (60, 40)
    for path in (
        "/api/images/102/7.jpg",
        "/api/images/../run.json/240.jpg",
        "/assets/..%2f..%2faccess.py",
        "/run.json",
    ):
        assert client.get(path).status_code in (404, 422), path
    assert client.get("/api/images/999/240.jpg").status_code == 422
    (run.image_root / "02.jpg").unlink()
    assert client.get("/api/images/103/240.jpg").status_code == 410


@pytest.mark.parametrize(
    ("path", "content"),
    [
        ("/api/verdicts", {"shown": SHOWN, "reviewer": "Ada", "verdict": "good"}),
        ("/api/verdicts", {"shown": SHOWN, "reviewer": "", "verdict": "correct"}),
        ("/api/verdicts", {"shown": SHOWN, "reviewer": "Ada", "verdict": "correct", "box": [1, 2, 3]}),
        ("/api/verdicts", {"shown": SHOWN, "reviewer": "Ada", "verdict": "correct", "box": [1, 2, 3, 1e99]}),
        ("/api/verdicts", {"shown": {"kind": "file", "number": 1}, "reviewer": "Ada", "verdict": "correct"}),
        (
            "/api/images",
            {"shown": {"kind": "image", "number": 102}, "reviewer": "Ada", "missed": [{"category": "dog"}]},
        ),
        ("/api/draw", {"boxes": -1}),
    ],
)
def test_invalid_requests_are_refused_and_record_nothing(
    client: TestClient, path: str, content: dict[str, object]
) -> None:
    assert client.post(path, json=content).status_code == 422
    assert client.get("/api/progress", params={"queue": "doubtful"}).json()["done"] == 0


def test_a_page_has_many_boxes_with_their_surroundings(client: TestClient, tmp_path: Path) -> None:
    items = client.get("/api/page", params={"queue": "class:dog", "reviewer": "Ada", "count": 2}).json()["items"]
    assert [one["category"] for one in items] == ["dog", "dog"]
    answer = client.get(f"/api/boxes/{items[0]['number']}/{SIDES[0]}.jpg")
    assert answer.headers["content-type"] == "image/jpeg"
    (tmp_path / "got.jpg").write_bytes(answer.content)
    assert max(Image.open(tmp_path / "got.jpg").size) == SIDES[0]
    assert client.get("/api/boxes/999/240.jpg").status_code == 422
    assert client.get("/api/boxes/1/9.jpg").status_code == 404
    assert client.get("/api/page", params={"queue": "plan", "reviewer": "Ada", "count": 1000}).status_code == 422


def test_a_run_without_a_model_has_no_map(client: TestClient) -> None:
    answer = client.get("/api/boxes/1/map.png")
    assert answer.status_code == 422
    assert answer.json()["detail"]
    assert client.get("/api/boxes/999/map.png").status_code == 422


def test_a_map_is_drawn_over_the_image(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    level = np.zeros((20, 30), np.float32)
    level[5:15, 5:15] = 1
    painter = SimpleNamespace(no_maps="", map_of=lambda name, category: level)
    monkeypatch.setattr(thumbnails, "Painter", lambda run, names: painter)
    client, _ = client_of(run, tmp_path)
    answer = client.get("/api/boxes/1/map.png")
    assert answer.headers["content-type"] == "image/png"
    (tmp_path / "map.png").write_bytes(answer.content)
    drawn = np.asarray(Image.open(tmp_path / "map.png").convert("RGBA"))
    assert drawn.shape[:2] == (20, 30)
    assert drawn[10, 10, 3] > drawn[0, 0, 3]


# --- who may use it --------------------------------------------------------------------------------------------------


def test_a_name_that_was_rebound_to_this_machine_is_refused(client: TestClient) -> None:
    for host in ("evil.example:8770", "127.0.0.1:9999", "", "localhost.evil.example:8770"):
        assert client.get("/api/run", headers={"host": host}).status_code == 421
    for host in ("127.0.0.1:8770", "localhost:8770", "[::1]:8770"):
        assert client.get("/api/run", headers={"host": host}).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"origin": "http://127.0.0.1:9999"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"content-type": "text/plain"},
        {"content-type": "application/x-www-form-urlencoded"},
    ],
)
def test_pages_of_other_sites_cannot_write(client: TestClient, headers: dict[str, str]) -> None:
    content = b'{"shown": {"kind": "box", "number": 1}, "reviewer": "Eve", "verdict": "nothing"}'
    answer = client.post("/api/verdicts", content=content, headers={"content-type": "application/json", **headers})
    assert answer.status_code == 403
    assert client.get("/api/progress", params={"queue": "doubtful"}).json()["done"] == 0


def test_another_address_than_loopback_needs_the_token(run: Run, tmp_path: Path) -> None:
    client, access = client_of(run, tmp_path, "192.0.2.7")
    assert access.token is not None
    assert len(access.token) >= 32
    assert access.token not in repr(access)
    assert client.get("/").status_code == 200
    for path in ("/api/run", "/api/images/102/240.jpg", "/api/estimate"):
        assert client.get(path).status_code == 401
    assert client.post("/api/login", json={"token": "wrong"}).status_code == 401
    assert client.get("/api/run").status_code == 401
    answer = client.post("/api/login", json={"token": access.token})
    assert answer.status_code == 200
    cookie = answer.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    assert client.get("/api/run").status_code == 200


def test_loopback_needs_none() -> None:
    assert Access.for_address("127.0.0.1", 1).token is None
    assert Access.for_address("::1", 1).token is None
    assert Access.for_address("0.0.0.0", 1).token != Access.for_address("0.0.0.0", 1).token


# --- several runs ----------------------------------------------------------------------------------------------------


def test_each_request_names_its_run(run: Run, tmp_path: Path) -> None:
    (tmp_path / "second").mkdir()
    second = write_review_run(tmp_path / "second", photos(6))
    runs = [RunToReview(run.path, "new in version 2"), RunToReview(second.path, "new in version 1")]
    reviews = Reviews(runs, PictureFolder(tmp_path / "cache"))
    client = TestClient(build_application(reviews, Access.for_address("127.0.0.1", 8770)), "http://127.0.0.1:8770")
    assert client.get("/api/run").json()["runs"] == ["new in version 2", "new in version 1"]
    assert [client.get("/api/run", params={"run": one}).json()["boxes"] for one in (0, 1)] == [6, 10]
    said = {"shown": SHOWN, "reviewer": "Ada", "verdict": "nothing"}
    assert client.post("/api/verdicts?run=1", json=said).status_code == 200
    done = [client.get("/api/progress", params={"queue": "doubtful", "run": one}).json()["done"] for one in (0, 1)]
    assert done == [0, 1]
    assert client.get("/api/run", params={"run": 2}).status_code == 422
    assert client.get("/api/run", params={"run": -1}).status_code == 422
    reviews.close()
    assert [(one.path / "verdicts.parquet").exists() for one in (run, second)] == [False, True]


def test_lists_for_people_are_answered(client: TestClient) -> None:
    assert client.get("/api/quarantined").json() == {"all": 0, "images": []}
    assert client.get("/api/agreement").json()["pairs"] == []
    assert client.get("/assets/..%2fserver.py").status_code == 404
    assert client.get("/assets/index.html").status_code == 404


# --- pictures --------------------------------------------------------------------------------------------------------


def test_pictures_are_kept_within_a_limit(run: Run, tmp_path: Path) -> None:
    index = ReviewSession(run).index
    first = Pictures(run, PictureFolder(tmp_path / "kept")).jpeg(index.image_of(102), 240)
    pictures = Pictures(run, PictureFolder(tmp_path / "kept", limit=2 * len(first)))
    for number in (101, 102, 103, 104):
        pictures.jpeg(index.image_of(number), 240)
    kept = sum(path.stat().st_size for path in (tmp_path / "kept").iterdir())
    assert 0 < kept <= 2 * len(first)
    for path in (tmp_path / "kept").iterdir():
        path.unlink()
    assert pictures.jpeg(index.image_of(102), 240) == first  # deleted files are made again


def test_pictures_that_are_not_its_own_are_never_deleted(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "kept"
    folder.mkdir()
    (folder / "holiday.jpg").write_bytes(bytes(100_000))
    pictures = Pictures(run, PictureFolder(folder, limit=1))
    for number in (102, 103):
        pictures.jpeg(ReviewSession(run).index.image_of(number), 240)
    assert [path.name for path in folder.iterdir()] == ["holiday.jpg"]


def test_a_full_disk_costs_only_the_cache(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path, content: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", refuse)
    pictures = Pictures(run, PictureFolder(tmp_path / "cache"))
    assert pictures.jpeg(ReviewSession(run).index.image_of(102), 240).startswith(b"\xff\xd8")


def test_a_folder_that_cannot_be_written_costs_only_the_cache(run: Run, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    pictures = Pictures(run, PictureFolder(tmp_path / "file" / "cache"))
    assert pictures.jpeg(ReviewSession(run).index.image_of(102), 240).startswith(b"\xff\xd8")


# --- the command -----------------------------------------------------------------------------------------------------


def test_a_store_without_labels_and_other_folders_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "labels" / "_delta_log").mkdir(parents=True)
    assert run_command(["audit", str(tmp_path / "labels"), "--no-browser"]) == 2
    assert "holds no labels yet" in " ".join(capsys.readouterr().err.split())
    assert run_command(["audit", str(tmp_path), "--no-browser"]) == 2
    assert "is not a run directory" in " ".join(capsys.readouterr().err.split())


def test_a_port_that_is_taken_is_refused(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert run_command(["audit", str(run.path), "--no-browser", "--port", port]) == 2
    assert f"Cannot listen on 127.0.0.1:{port}" in " ".join(capsys.readouterr().err.split())
