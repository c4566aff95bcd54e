"""The server: loopback, nothing but the page and the runs of the folder, limits, and no word to anybody else."""

import asyncio
import importlib.util
import os
import re
import socket
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

import planted_desk
from mnemoscope import UsageError
from mnemoscope.app import limits, serving
from mnemoscope.app.limits import OwnSourcesOnly, UploadLimit
from mnemoscope.app.serving import need_gradio
from pages import make_detect, make_generate
from served_page import COMMAND, planted_page, process

needs_gradio = pytest.mark.skipif(
    importlib.util.find_spec("gradio") is None, reason="gradio is not installed: pip install gradio"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("served")
    make_detect(place / "runs" / "a run", memorized=4, ordinary=100, tested=2)
    make_detect(place / "runs" / "b", memorized=4, ordinary=100, tested=2)
    make_generate(place / "runs" / "images", 1, 1)
    return place


@pytest.fixture(scope="module")
def address(folder: Path) -> Iterator[str]:
    with planted_page(folder) as made:
        yield made


def asked(address: str, data: bytes | None = None, **headers: str) -> tuple[int, bytes, Any]:
    try:
        with urllib.request.urlopen(urllib.request.Request(address, data, headers), timeout=60) as answer:
            return answer.status, answer.read(), answer.headers
    except urllib.error.HTTPError as error:
        return error.code, error.read(), error.headers


def uploaded(address: str, content: bytes) -> int:
    head = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\nContent-Type: image/png\r\n\r\n'
    body = head + content + b"\r\n--x--\r\n"
    return asked(f"{address}gradio_api/upload", body, **{"Content-Type": "multipart/form-data; boundary=x"})[0]


@needs_gradio
def test_the_page_is_on_loopback_and_loads_nothing_from_elsewhere(address: str) -> None:
    assert address.startswith("http://127.0.0.1:")
    status, content, headers = asked(address)
    assert status == 200 and b"Has this model memorized it?" in content
    assert headers["Content-Security-Policy"] == limits.POLICY and headers["X-Content-Type-Options"] == "nosniff"
    assert not re.findall(rb'<(?:script|link|iframe)[^>]+(?:src|href)="https?:', content)
    assert os.environ["GRADIO_ANALYTICS_ENABLED"] == "False" and b'"analytics_enabled":false' in content
    assert b"fonts.googleapis" not in content + asked(f"{address}theme.css")[1]


@needs_gradio
def test_nobody_calls_the_functions_of_the_page_by_name(address: str) -> None:
    assert b'"named_endpoints":{}' in asked(f"{address}gradio_api/info")[1].replace(b" ", b"")


@needs_gradio
def test_no_file_is_served_but_the_page_s(address: str, folder: Path) -> None:
    run = folder / "runs" / "b" / "run.json"
    for path in (run, "/etc/passwd", planted_desk.__file__, "pyproject.toml"):
        assert asked(f"{address}gradio_api/file={path}")[0] in (403, 404)


@needs_gradio
def test_runs_have_reports_pictures_and_comparisons(address: str) -> None:
    status, content, headers = asked(f"{address}reports/a%20run/")
    assert status == 200 and b"look memorized" in content and headers["Refresh"] is None
    assert headers["Content-Security-Policy"].startswith("sandbox allow-scripts")
    assert asked(f"{address}comparison?run=a%20run&run=b")[0] == 200
    image = re.search(rb'"(images/[^"]+\.png)"', asked(f"{address}reports/images/")[1])
    for inside, code in (("run.json", 404), ("..%2f..%2fsecret", 404), (image[1].decode() if image else "", 200)):
        if inside:
            assert asked(f"{address}reports/images/{inside}")[0] == code
    status, content, _ = asked(f"{address}reports/%3Cscript%3E/")
    assert status == 404 and b"<script>" not in content and b"There is no run" in content
    assert asked(f"{address}comparison?run=b")[0] == 404


@needs_gradio
def test_the_report_of_a_running_run_comes_again(address: str, folder: Path) -> None:
    with FileLock(folder / "runs" / "b" / ".lock"):
        assert asked(f"{address}reports/b/")[2]["Refresh"] == "10"


@needs_gradio
def test_uploads_have_a_size_and_a_rate(address: str) -> None:
    assert uploaded(address, b"x" * 11_000_000) == 413
    codes = [uploaded(address, b"x") for _ in range(limits.UPLOADS)]
    assert codes == [200] * (limits.UPLOADS - 1) + [429]


@needs_gradio
@pytest.mark.slow
def test_a_port_that_is_taken_is_one_sentence(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with process(*COMMAND, "--threshold", "0.5", "--port", port) as made:
            said, _ = made.communicate(timeout=120)
        assert made.returncode == 2 and said.count("\n") == 1
        assert f"mnemoscope: The page cannot be served at 127.0.0.1, port {port}" in said


def test_without_gradio_it_is_said_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gradio", None)
    with pytest.raises(UsageError, match=r"pip install 'mnemoscope\[app\]'"):
        need_gradio()


class Old:
    __version__ = "5.49.1"


def test_an_older_gradio_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gradio", Old)
    with pytest.raises(UsageError) as told:
        need_gradio()
    assert str(told.value) == serving.NEEDED


def through(application: Any, method: str, path: str, client: str) -> list[dict[str, Any]]:
    """What an application sends when it is asked."""
    sent: list[dict[str, Any]] = []

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    scope = {"type": "http", "method": method, "path": path, "client": (client, 1)}
    asyncio.run(application(scope, None, send))
    return sent


async def plain(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"referrer-policy", b"origin")]})


def test_uploads_of_one_address_are_counted_and_forgotten() -> None:
    now = [0.0]
    limited = UploadLimit(plain, uploads=2, window=60, clock=lambda: now[0])
    ask = [through(limited, "POST", "/gradio_api/upload", "a")[0]["status"] for _ in range(3)]
    assert ask == [200, 200, 429]
    assert through(limited, "POST", "/gradio_api/upload", "b")[0]["status"] == 200
    assert through(limited, "GET", "/", "a")[0]["status"] == 200
    now[0] = 50.0
    refused = through(limited, "POST", "/gradio_api/upload", "a")
    assert dict(refused[0]["headers"])[b"retry-after"] == b"10" and b"10 seconds" in refused[1]["body"]
    now[0] = 60.0
    assert through(limited, "POST", "/gradio_api/upload", "a")[0]["status"] == 200


def test_clients_are_not_remembered_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MOST_CLIENTS", 3)
    limited = UploadLimit(plain)
    for k in range(5):
        through(limited, "POST", "/upload", f"address {k}")
    assert list(limited.seen) == ["address 2", "address 3", "address 4"]


def test_an_answer_keeps_the_policy_that_it_has() -> None:
    headers = through(OwnSourcesOnly(plain), "GET", "/", "a")[0]["headers"]
    assert dict(headers)[b"referrer-policy"] == b"origin" and dict(headers)[b"x-content-type-options"] == b"nosniff"
    assert len(headers) == 3


class Launched:
    """Gradio's page as far as it is launched: what it was asked for, and the public link that it got."""

    def __init__(self, public: str | None) -> None:
        self.public = public
        self.how: dict[str, Any] = {}
        self.closed = False

    def launch(self, **how: Any) -> tuple[None, str, str | None]:
        self.how = how
        return None, "http://127.0.0.1:7860/", self.public

    def close(self, **_: Any) -> None:
        self.closed = True


@needs_gradio
@pytest.mark.parametrize(
    ("share", "public", "address"),
    [
        (False, None, "http://127.0.0.1:7860/"),
        (True, "https://abc.gradio.live", "https://abc.gradio.live"),
        (True, None, None),
    ],
)
def test_a_public_link_is_made_when_asked_for_by_name_alone(
    share: bool, public: str | None, address: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And one that was asked for and does not come about is an error, not a page that is served here."""
    made = Launched(public)
    monkeypatch.setattr("mnemoscope.app.layout.page", lambda *_: made)
    monkeypatch.setenv("GRADIO_SHARE", "true")  # gradio listens to it where nothing was said
    served = serving.served(planted_desk.about(), tmp_path, share=share)
    if address is None:
        with pytest.raises(UsageError, match="could make no public link"), served:
            pass
    else:
        with served as found:
            assert found == address
    assert made.how["share"] is share and made.closed
