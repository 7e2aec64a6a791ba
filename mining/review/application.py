"""The review application over HTTP: the page, its data, its pictures, and what reviewers say."""

from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import Body, FastAPI, Query, Request, Response
from fastapi.responses import FileResponse, JSONResponse
from pydantic import BaseModel, Field
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint

from mining.errors import BoxmineError, ImageError
from mining.quality.judgements import VERDICTS, MissedObject
from mining.review.access import COOKIE, HEADERS, Access
from mining.review.maps import Maps
from mining.review.pictures import SIDES, Pictures
from mining.review.session import ReviewSession, Target

ASSETS = Path(__file__).parent / "assets"
_KINDS = {".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8", ".svg": "image/svg+xml"}
_MAX_NAME = 200
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


def build_application(session: ReviewSession, pictures: Pictures, maps: Maps, access: Access) -> FastAPI:
    """Build the application of a session.

    Args:
        session: The run that is reviewed.
        pictures: Its pictures.
        maps: Its maps.
        access: Who may use it.
    """
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
    app.add_middleware(_Checks, access=access)
    _add_page(app, access)
    _add_queues(app, session)
    _add_verdicts(app, session)
    _add_pictures(app, session, pictures, maps)

    @app.exception_handler(BoxmineError)
    def refused(_: Request, error: Exception) -> Response:
        return _problem(422, str(error))

    return app


def _add_pictures(app: FastAPI, session: ReviewSession, pictures: Pictures, maps: Maps) -> None:
    @app.get("/api/images/{image_id}/{side}.jpg")
    def picture(image_id: int, side: int) -> Response:
        if side not in SIDES:
            return _problem(404, "There is no picture of this size.")
        try:
            content = pictures.jpeg(session.index.image_of(image_id), side)
        except ImageError as error:
            return _problem(410, str(error))
        return Response(content, media_type="image/jpeg", headers={"Cache-Control": "private, max-age=3600"})

    @app.get("/api/boxes/{annotation_id}/{side}.jpg")
    def crop(annotation_id: int, side: int) -> Response:
        if side not in SIDES:
            return _problem(404, "There is no picture of this size.")
        image, box = session.index.box_of(annotation_id)
        try:
            content = pictures.crop(image, box, side)
        except ImageError as error:
            return _problem(410, str(error))
        return Response(content, media_type="image/jpeg", headers={"Cache-Control": "private, max-age=3600"})

    @app.get("/api/boxes/{annotation_id}/map.png")
    def activation_map(annotation_id: int) -> Response:
        image, _ = session.index.box_of(annotation_id)
        category = session.index.classes[int(session.index.category[session.index.place_of(annotation_id)])]
        try:
            content = maps.png(image, category)
        except ImageError as error:
            return _problem(410, str(error))
        return Response(content, media_type="image/png", headers={"Cache-Control": "private, max-age=3600"})


def _problem(status: int, text: str) -> JSONResponse:
    return JSONResponse({"detail": text}, status)


def _add_page(app: FastAPI, access: Access) -> None:
    @app.get("/")
    def page() -> Response:
        return FileResponse(ASSETS / "index.html", media_type="text/html; charset=utf-8")

    @app.get("/assets/{name}")
    def asset(name: Literal["review.js", "review.css", "overlay.js", "icon.svg"]) -> Response:
        return FileResponse(ASSETS / name, media_type=_KINDS[Path(name).suffix], headers={"Cache-Control": "no-cache"})

    @app.post("/api/login")
    def login(token: Annotated[str, Body(embed=True, max_length=200)]) -> Response:
        if access.token is not None and not access.accepts(token):
            return _problem(401, "The token is not right.")
        response = JSONResponse({})
        if access.token is not None:
            response.set_cookie(COOKIE, token, httponly=True, samesite="strict", path="/")
        return response


def _add_queues(app: FastAPI, session: ReviewSession) -> None:
    @app.get("/api/run")
    def run() -> dict[str, Any]:
        return {
            "name": session.index.run.name, "boxes": len(session.index), "verdicts": VERDICTS,
            "classes": list(session.index.classes.values()), "queues": session.queues(),
        }  # fmt: skip

    @app.get("/api/next")
    def next_target(
        queue: str, reviewer: str, kind: Literal["box", "image"] | None = None, number: int | None = None
    ) -> dict[str, Any]:
        after = None if kind is None or number is None else (kind, number)
        target = session.next_target(queue, reviewer, after)
        return {"item": None if target is None else session.describe(target, reviewer), **session.progress(queue)}

    @app.get("/api/page")
    def page_of(queue: str, reviewer: str, count: Annotated[int, Query(ge=1, le=100)] = 24) -> dict[str, Any]:
        targets = session.next_targets(queue, reviewer, count)
        return {"items": [session.describe_briefly(one) for one in targets], **session.progress(queue)}

    @app.get("/api/progress")
    def progress(queue: str) -> dict[str, int]:
        return session.progress(queue)

    @app.post("/api/show")
    def show(shown: Shown, reviewer: Annotated[str, Body(max_length=_MAX_NAME)]) -> dict[str, Any]:
        return session.describe(shown.target(), reviewer)

    @app.get("/api/estimate")
    def estimate() -> dict[str, Any]:
        return session.estimate().to_record()

    @app.post("/api/draw")
    def draw(drawing: Drawing) -> dict[str, int]:
        boxes, images = session.draw(boxes=drawing.boxes, images=drawing.images)
        return {"boxes": boxes, "images": images}


def _add_verdicts(app: FastAPI, session: ReviewSession) -> None:
    @app.post("/api/verdicts")
    def say(said: Said) -> dict[str, Any]:
        session.say(said.shown.target(), said.reviewer, said.verdict, said.box, said.category)
        return {}

    @app.post("/api/images")
    def complete(said: Completed) -> dict[str, Any]:
        missed = [MissedObject(one.category, one.box) for one in said.missed]
        session.complete(said.shown.target(), said.reviewer, missed)
        return {}

    @app.post("/api/take-back")
    def take_back(said: TakenBack) -> dict[str, Any]:
        session.take_back(said.shown.target(), said.reviewer)
        return session.describe(said.shown.target(), said.reviewer)


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
