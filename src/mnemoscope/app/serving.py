"""The page on a port of this machine, until it is closed."""

import logging
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mnemoscope.app.desk import Desk
from mnemoscope.app.limits import LARGEST, OwnSourcesOnly, UploadLimit
from mnemoscope.app.runs import Runs
from mnemoscope.app.subject import PageSubject
from mnemoscope.errors import UsageError

LOOPBACK = "127.0.0.1"
HOW: dict[str, Any] = {  # nothing but the page, and no word of it on the terminal
    "quiet": True,
    "prevent_thread_lock": True,
    "show_error": True,
    "footer_links": [],
    "max_file_size": LARGEST,
    "allowed_paths": [],
    **dict.fromkeys(("ssr_mode", "pwa", "mcp_server", "enable_monitoring", "run_history"), False),
}
UNSHARED = "Gradio could make no public link, which takes a program that it downloads and its servers"
NEEDED = "The page needs gradio 6; run pip install 'mnemoscope[app]'."


def need_gradio() -> None:
    """Raise `UsageError` where gradio is missing, or one that is too old."""
    try:
        import gradio
    except ImportError as e:
        raise UsageError(NEEDED) from e
    if int(gradio.__version__.partition(".")[0]) < 6:
        raise UsageError(NEEDED)


@contextmanager
def served(
    subject: PageSubject, runs: Path, *, host: str = LOOPBACK, port: int | None = None, share: bool = False
) -> Iterator[str]:
    """Serve the page about a subject and a folder of runs while the block is open; yields its address.

    Without a port the first free one from 7860 on is taken. Only `share` makes a public link. Nothing but the page and
    the runs of the folder is served, and what is uploaded or drawn goes when the block ends. Raises `UsageError` where
    gradio is missing, for a port that is taken, and where no public link could be made.
    """
    need_gradio()
    from starlette.middleware import Middleware

    from mnemoscope.app.fragments import style
    from mnemoscope.app.handlers import Handlers
    from mnemoscope.app.layout import page, theme
    from mnemoscope.app.reports import routes

    logging.getLogger("httpx").setLevel(logging.WARNING)  # gradio asks its own server whether it is there
    with tempfile.TemporaryDirectory(prefix="mnemoscope-app-") as made:
        folder = Path(made)
        os.environ["GRADIO_TEMP_DIR"] = str(folder / "uploads")  # read while the page is made
        listed = Runs(runs)
        blocks = page(Handlers(Desk(subject, folder), listed))
        try:
            _, local, public = blocks.launch(
                server_name=host,
                server_port=port,
                share=share,
                theme=theme(),
                head=f"<style>{style()}</style>",
                **HOW,
                app_kwargs={
                    "routes": routes(listed, folder),
                    "middleware": [Middleware(OwnSourcesOnly), Middleware(UploadLimit)],
                },
            )
        except OSError as e:
            raise UsageError(
                f"The page cannot be served at {host}, port {port or 'any'} ({e}); give another --port."
            ) from e
        try:
            if share and public is None:
                raise UsageError(f"{UNSHARED}, and the page was not served; leave --share out to have it here.")
            yield public if share else local
        finally:
            blocks.close(verbose=False)
