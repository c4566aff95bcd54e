"""What the server refuses whatever the page asks for: too many uploads, and anything that comes from elsewhere."""

import time
from collections import deque
from collections.abc import Callable
from typing import Any

UPLOADS, WINDOW = 10, 60.0  # uploads of one address in so many seconds
LARGEST = "10mb"  # of an uploaded file
MOST_CLIENTS = 10_000  # whose uploads are remembered
UPLOAD_PATH = "/upload"
POLICY = (
    "default-src 'self'; img-src 'self' data: blob:; style-src 'self' 'unsafe-inline'; font-src 'self' data:; "
    "script-src 'self' 'unsafe-inline' 'unsafe-eval'; connect-src 'self'; frame-src 'self'; object-src 'none'; "
    "base-uri 'self'; form-action 'self'; frame-ancestors 'self'"
)
HEADERS = (
    (b"content-security-policy", POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
)
Scope = dict[str, Any]
Asgi = Callable[..., Any]


class UploadLimit:
    """At most `uploads` files from one address in `window` seconds; more are refused with 429."""

    def __init__(
        self,
        app: Asgi,
        uploads: int = UPLOADS,
        window: int | float = WINDOW,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.app, self.uploads, self.window, self.clock = app, uploads, window, clock
        self.seen: dict[str, deque[float]] = {}

    async def __call__(self, scope: Scope, receive: Asgi, send: Asgi) -> None:
        is_upload = scope["type"] == "http" and scope["method"] == "POST" and scope["path"].endswith(UPLOAD_PATH)
        wait = self._wait(str((scope.get("client") or ("",))[0])) if is_upload else 0.0
        if not wait:
            await self.app(scope, receive, send)
            return
        text = f"Too many uploads; try again in {wait:.0f} seconds.".encode()
        headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"retry-after", f"{wait:.0f}".encode())]
        await send({"type": "http.response.start", "status": 429, "headers": headers})
        await send({"type": "http.response.body", "body": text})

    def _wait(self, client: str) -> float:
        """Seconds until this address may upload again; 0 where it may now, which is remembered."""
        now = self.clock()
        times = self.seen.setdefault(client, deque())
        while times and now - times[0] >= self.window:
            times.popleft()
        if len(times) >= self.uploads:
            return max(1.0, self.window - (now - times[0]))
        times.append(now)
        while len(self.seen) > MOST_CLIENTS:
            self.seen.pop(next(iter(self.seen)))
        return 0.0


class OwnSourcesOnly:
    """Answers that let a browser load nothing from anywhere else, unless they have a policy of their own."""

    def __init__(self, app: Asgi) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Asgi, send: Asgi) -> None:
        async def sending(message: dict[str, Any]) -> None:
            if message["type"] == "http.response.start":
                there = {name.lower() for name, _ in message.get("headers", ())}
                added = [(name, value) for name, value in HEADERS if name not in there]
                message = {**message, "headers": [*message.get("headers", ()), *added]}
            await send(message)

        await self.app(scope, receive, sending if scope["type"] == "http" else send)
