"""The route that says whether the watched folders changed."""

from __future__ import annotations

import anyio
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from views.server.tokens import NEVER_STORE, forbidden
from views.shared.places import listing_digest


async def watched(request: Request) -> Response:
    """Answer what stands for the recordings that lie in the watched folders now."""
    if (refused := forbidden(request, "watched")) is not None:
        return refused
    listing = await anyio.to_thread.run_sync(listing_digest)
    return JSONResponse({"listing": listing}, headers=NEVER_STORE)
