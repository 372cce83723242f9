"""The few HTTP routes beside the pages: health, uploads, views of the timeline."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import re
import threading
from collections.abc import AsyncIterator, Mapping

import anyio
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from analyzers.facts.facts import WindowError
from collectors.errors import TraceError
from views.server.event_details import EventDetails
from views.server.housekeeping import announce, end_soon, keep_house, prepare
from views.server.making import TimelineNotMadeError, begin_if_not_made
from views.server.tiles import QueryError, answer
from views.server.tokens import NEVER_STORE, api_path, forbidden, refusal
from views.server.uploads import upload
from views.server.watched import watched
from views.shared import session
from views.shared.server_paths import trouble


async def health(_request: Request) -> Response:
    """Say that the server lives."""
    return JSONResponse({"status": "ok"}, headers=NEVER_STORE)


async def timeline(request: Request) -> Response:
    """Answer what the timeline's canvas asks, as ``views.server.tiles`` packs it."""
    if (refused := forbidden(request, "timeline")) is not None:
        return refused
    query = dict(request.query_params)
    try:
        await anyio.to_thread.run_sync(begin_if_not_made, query)
        body = await anyio.to_thread.run_sync(timeline_answer, query)
    except TimelineNotMadeError as error:
        return JSONResponse({"stage": str(error)}, 202, headers=NEVER_STORE)
    except QueryError as error:
        return refusal(400, str(error))
    except (TraceError, WindowError) as error:
        return refusal(404, trouble(error))
    except OSError as error:
        return refusal(507, trouble(error))
    return Response(body, media_type="application/octet-stream", headers=NEVER_STORE)


def timeline_answer(query: Mapping[str, str]) -> bytes:
    """Return the answer to one question of the canvas.

    Args:
        query: ``trace``, ``window``, ``device`` and ``counters``, and what
            ``views.server.tiles.answer`` takes.

    Raises:
        QueryError: The question makes no sense.
        TraceError: The recording is gone or damaged.
        WindowError: It has no such window.
    """
    device = query.get("device", "-1")
    key = int(device) if re.fullmatch(r"-1|\d{1,4}", device) else -1
    identity = (query.get("trace", ""), query.get("window", ""), key, query.get("counters", ""))
    lanes = session.timeline(*identity)
    if query.get("what") != "event":
        return answer(lanes, query)
    trace_id, window, _, counters = identity
    return answer(lanes, query, EventDetails(session.load(trace_id, window, counters), lanes))


@contextlib.asynccontextmanager
async def lifespan(_app: object) -> AsyncIterator[dict[str, object]]:
    """Import what the pages need while the browser starts, and keep house until the end."""
    prepare()
    threading.Thread(target=_warm_up, daemon=True).start()
    keeper = asyncio.create_task(keep_house())
    announce()
    try:
        yield {}
    finally:
        keeper.cancel()
        end_soon()


def _warm_up() -> None:
    for module in ("plotly.graph_objects", "analyzers", "pyarrow.parquet"):
        importlib.import_module(module)


ROUTES: tuple[BaseRoute, ...] = (
    Route(api_path("health"), health),
    Route(api_path("upload"), upload, methods=["GET", "PUT"]),
    Route(api_path("timeline"), timeline),
    Route(api_path("watched"), watched),
)
