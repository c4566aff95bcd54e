"""Addresses of the runs' reports and of the pictures that these link to."""

import hashlib
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, Response
from starlette.routing import Route

from mnemoscope.app.fragments import refusal
from mnemoscope.app.runs import Runs
from mnemoscope.errors import UsageError

AGAIN = "10"  # seconds until the report of a running run is loaded anew
SANDBOX = {"content-security-policy": "sandbox allow-scripts allow-popups; frame-ancestors 'self'"}


def routes(runs: Runs, folder: Path) -> list[Route]:
    """A report for each run, its pictures, and comparisons, which are written into the folder."""

    @_told
    def report(request: Request) -> Response:
        name = request.path_params["name"]
        again = {"refresh": AGAIN} if runs.is_running(name) else {}
        return HTMLResponse(runs.report(name).read_bytes(), headers={**SANDBOX, **again})

    @_told
    def picture(request: Request) -> Response:
        file, kind = runs.picture(request.path_params["name"], request.path_params["inside"])
        return FileResponse(file, media_type=kind)

    @_told
    def comparison(request: Request) -> Response:
        names = request.query_params.getlist("run")[:2]
        digest = hashlib.sha256("\n".join(names).encode("utf-8", "replace")).hexdigest()[:16]
        page = runs.comparison(names, folder / f"comparison-{digest}.html")
        return HTMLResponse(page.read_bytes(), headers=SANDBOX)

    return [
        Route("/reports/{name}/", report),
        Route("/reports/{name}/{inside:path}", picture),
        Route("/comparison", comparison),
    ]


def _told(answer: Callable[[Request], Response]) -> Callable[[Request], Any]:
    """An answer, or a page with the sentence that says why there is none."""

    @wraps(answer)
    def guarded(request: Request) -> Response:
        try:
            return answer(request)
        except UsageError as e:
            return HTMLResponse(refusal(str(e)), status_code=404)

    return guarded
