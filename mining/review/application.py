"""The review application over HTTP: the page, its data, its pictures, and what reviewers say."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import Body, Depends, FastAPI, Query, Request, Response
from fastapi.responses import FileResponse, JSONResponse
from pydantic import BaseModel, Field
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint

from mining.errors import BoxmineError, ImageError
from mining.quality.judgements import VERDICTS, MissedObject
from mining.review.access import COOKIE, HEADERS, Access
from mining.review.orders import Target
from mining.review.pictures import SIDES
from mining.review.reviews import Review, Reviews

ASSETS = Path(__file__).parent / "assets"
_KINDS = {".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8", ".svg": "image/svg+xml"}
_ASSET_NAMES = frozenset(path.name for path in ASSETS.iterdir() if path.suffix in _KINDS)
_MAX_NAME = 200
MAX_LISTED = 500  # images that could not be used


def _open_review(request: Request, run: Annotated[int, Query(ge=0)] = 0) -> Review:
    reviews: Reviews = request.app.state.reviews
    return reviews.open(run)


_Chosen = Annotated[Review, Depends(_open_review)]
_Name = Annotated[str, Field(min_length=1, max_length=_MAX_NAME)]
_Number = Annotated[float, Field(ge=-1e6, le=1e6)]
_Box = tuple[_Number, _Number, _Number, _Number]


class Shown(BaseModel):
    """What was shown: kind and number of the target, the plan that asked for it, and why."""

    kind: Literal["box", "image"]
    number: int
    plan: Annotated[str, Field(max_length=40)] = ""
    why: Literal["random", "suspicious", "image", "review"] = "review"

    def target(self) -> Target:
        """Return it as a target."""
        return Target(self.kind, self.number, self.plan, self.why)


class Said(BaseModel):
    """A verdict on a box."""

    shown: Shown
    reviewer: _Name
    verdict: Annotated[str, Field(max_length=20)]
    box: _Box | None = None
    category: Annotated[str, Field(max_length=_MAX_NAME)] | None = None


class Missed(BaseModel):
    """An object without a correct box."""

    category: Annotated[str, Field(min_length=1, max_length=_MAX_NAME)]
    box: _Box | None = None


class Completed(BaseModel):
    """An image that was looked at whole."""

    shown: Shown
    reviewer: _Name
    missed: Annotated[list[Missed], Field(max_length=10_000)] = []


class TakenBack(BaseModel):
    """A verdict that is withdrawn."""

    shown: Shown
    reviewer: _Name


class Drawing(BaseModel):
    """How many boxes and images are to be drawn at random."""

    boxes: Annotated[int, Field(ge=0, le=1_000_000)] = 0
    images: Annotated[int, Field(ge=0, le=1_000_000)] = 0


def build_application(reviews: Reviews, access: Access) -> FastAPI:
    """Build the application. Every request names its run by `run`, its place in the list of runs; the first by default.

    Args:
        reviews: The runs that are reviewed.
        access: Who may use it.
    """
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
    app.add_middleware(_Checks, access=access)

    app.state.reviews = reviews
    _add_page(app, access)
    _add_queues(app, reviews)
    _add_verdicts(app)
    _add_pictures(app)

    @app.exception_handler(BoxmineError)
    def refused(_: Request, error: Exception) -> Response:
        return _problem(422, str(error))

    return app


def _add_pictures(app: FastAPI) -> None:
    @app.get("/api/images/{image_id}/{side}.jpg")
    def picture(image_id: int, side: int, review: _Chosen) -> Response:
        if side not in SIDES:
            return _problem(404, "There is no picture of this size.")
        image = review.session.index.image_of(image_id)
        return _picture(lambda: review.pictures.jpeg(image, side), "image/jpeg")

    @app.get("/api/boxes/{annotation_id}/{side}.jpg")
    def crop(annotation_id: int, side: int, review: _Chosen) -> Response:
        if side not in SIDES:
            return _problem(404, "There is no picture of this size.")
        image, box = review.session.index.box_of(annotation_id)
        return _picture(lambda: review.pictures.crop(image, box, side), "image/jpeg")

    @app.get("/api/boxes/{annotation_id}/map.png")
    def activation_map(annotation_id: int, review: _Chosen) -> Response:
        index = review.session.index
        image, _ = index.box_of(annotation_id)
        category = index.classes[int(index.category[index.place_of(annotation_id)])]
        return _picture(lambda: review.maps.png(image, category), "image/png")


def _picture(make: Callable[[], bytes], media_type: str) -> Response:
    try:
        content = make()
    except ImageError as error:
        return _problem(410, str(error))
    return Response(content, media_type=media_type, headers={"Cache-Control": "private, max-age=3600"})


def _problem(status: int, text: str) -> JSONResponse:
    return JSONResponse({"detail": text}, status)


def _add_page(app: FastAPI, access: Access) -> None:
    @app.get("/")
    def page() -> Response:
        return FileResponse(ASSETS / "index.html", media_type="text/html; charset=utf-8")

    @app.get("/assets/{name}")
    def asset(name: str) -> Response:
        if name not in _ASSET_NAMES:
            return _problem(404, "There is no such file.")
        return FileResponse(ASSETS / name, media_type=_KINDS[Path(name).suffix], headers={"Cache-Control": "no-cache"})

    @app.post("/api/login")
    def login(token: Annotated[str, Body(embed=True, max_length=200)]) -> Response:
        if access.token is not None and not access.accepts(token):
            return _problem(401, "The token is not right.")
        response = JSONResponse({})
        if access.token is not None:
            response.set_cookie(COOKIE, token, httponly=True, samesite="strict", path="/")
        return response


def _add_queues(app: FastAPI, reviews: Reviews) -> None:
    @app.get("/api/run")
    def run(review: _Chosen) -> dict[str, Any]:
        session = review.session
        return {
            "name": session.index.run.name, "boxes": len(session.index), "verdicts": VERDICTS,
            "classes": list(session.index.classes.values()), "queues": session.list_queues(),
            "other": session.other_name, "runs": [one.title for one in reviews.runs],
        }  # fmt: skip

    @app.get("/api/next")
    def next_target(
        review: _Chosen, queue: str, reviewer: str, kind: Literal["box", "image"] | None = None,
        number: int | None = None, all_photos: bool = False,
    ) -> dict[str, Any]:  # fmt: skip
        session = review.session
        after = None if kind is None or number is None else (kind, number)
        target = session.next_target(queue, reviewer, after, all_photos=all_photos)
        item = None if target is None else session.describe(target, reviewer)
        return {"item": item, **session.progress(queue, all_photos=all_photos)}

    @app.get("/api/page")
    def page_of(
        review: _Chosen, queue: str, reviewer: str, count: Annotated[int, Query(ge=1, le=100)] = 24,
        kind: Literal["box", "image"] | None = None, number: int | None = None, all_photos: bool = False,
    ) -> dict[str, Any]:  # fmt: skip
        session = review.session
        after = None if kind is None or number is None else (kind, number)
        targets = session.next_targets(queue, reviewer, count, after, all_photos=all_photos)
        items = [session.describe_briefly(one) for one in targets]
        return {"items": items, **session.progress(queue, all_photos=all_photos)}

    @app.get("/api/progress")
    def progress(queue: str, review: _Chosen, all_photos: bool = False) -> dict[str, int]:
        return review.session.progress(queue, all_photos=all_photos)

    @app.post("/api/show")
    def show(shown: Shown, reviewer: Annotated[str, Body(max_length=_MAX_NAME)], review: _Chosen) -> dict[str, Any]:
        return review.session.describe(shown.target(), reviewer)

    @app.get("/api/estimate")
    def estimate(review: _Chosen) -> dict[str, Any]:
        return review.session.estimate().to_record()

    @app.get("/api/agreement")
    def agreement(review: _Chosen) -> dict[str, Any]:
        return review.session.describe_agreement()

    @app.get("/api/quarantined")
    def quarantined(review: _Chosen) -> dict[str, Any]:
        found = review.session.index.quarantined
        return {"all": len(found), "images": [{"file": name, "reason": why} for name, why in found[:MAX_LISTED]]}

    @app.post("/api/draw")
    def draw(drawing: Drawing, review: _Chosen) -> dict[str, int]:
        boxes, images = review.session.draw(boxes=drawing.boxes, images=drawing.images)
        return {"boxes": boxes, "images": images}


def _add_verdicts(app: FastAPI) -> None:
    @app.post("/api/verdicts")
    def say(said: Said, review: _Chosen) -> dict[str, Any]:
        review.session.say(said.shown.target(), said.reviewer, said.verdict, said.box, said.category)
        return {}

    @app.post("/api/images")
    def complete(said: Completed, review: _Chosen) -> dict[str, Any]:
        missed = [MissedObject(one.category, one.box) for one in said.missed]
        review.session.complete(said.shown.target(), said.reviewer, missed)
        return {}

    @app.post("/api/take-back")
    def take_back(said: TakenBack, review: _Chosen) -> dict[str, Any]:
        review.session.take_back(said.shown.target(), said.reviewer)
        return review.session.describe(said.shown.target(), said.reviewer)


class _Checks(BaseHTTPMiddleware):
    """Refuse what `Access` refuses, and add the headers that keep other sites out."""

    def __init__(self, app: Any, access: Access) -> None:
        super().__init__(app)
        self._access = access

    async def dispatch(self, request: Request, call_next: RequestResponseEndpoint) -> Response:
        """Check a request and answer it."""
        refusal = self._access.refusal(request)
        response = _problem(*refusal) if refusal else await call_next(request)
        for name, value in HEADERS.items():
            response.headers.setdefault(name, value)
        response.headers.setdefault("Cache-Control", "no-store")
        return response
