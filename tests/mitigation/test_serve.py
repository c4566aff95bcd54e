"""The example of a server: a guarded pipeline on loopback draws, says what it saw, and sends no copy."""

import io
import json
import runpy
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import mnemoscope as mn
import tiny
from mnemoscope import planted
from mnemoscope.features import descriptor
from mnemoscope.search import build_index
from places import ROOT

uvicorn = pytest.importorskip("uvicorn", reason="uvicorn is not installed: pip install uvicorn")
pytest.importorskip("fastapi", reason="FastAPI is not installed: pip install fastapi")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of the server's own libraries
SAMPLING = {"num_inference_steps": 8, "guidance_scale": 3.0}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    for k, image in enumerate(planted.images()):
        pixels = ((image + 1) * 127.5).round().to(torch.uint8).permute(1, 2, 0).numpy()
        Image.fromarray(pixels).save(folder / f"{k}.png")
    return folder


@pytest.fixture(scope="module")
def address(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    build_index(pictures, index := tmp_path_factory.mktemp("index") / "i", descriptor("pixels"))
    guard = mn.Guard(tiny.quiet(planted.pipeline()), threshold=1e6, index=index, again="seed", attempts=1)
    application = runpy.run_path(str(ROOT / "examples" / "serve.py"))["serving"](guard, **SAMPLING)
    server = uvicorn.Server(uvicorn.Config(application, host="127.0.0.1", port=0, log_level="error"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.01)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/images"
    server.should_exit = True
    thread.join()


def asked(address: str, **given: Any) -> tuple[int, bytes, str]:
    request = urllib.request.Request(address, json.dumps(given).encode(), {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, answer.read(), answer.headers["X-Seen"]
    except urllib.error.HTTPError as error:
        return error.code, error.read(), ""


def test_an_ordinary_prompt_is_drawn_as_the_pipeline_draws_it(address: str) -> None:
    status, content, seen = asked(address, prompt="ordinary 1", seed=7)
    plain = tiny.quiet(planted.pipeline())("ordinary 1", generator=tiny.generators([7])[0], **SAMPLING).images[0]
    assert status == 200 and np.array_equal(np.asarray(Image.open(io.BytesIO(content))), np.asarray(plain))
    assert json.loads(seen)["copied"] is False


def test_a_copy_is_not_sent(address: str) -> None:
    status, content, _ = asked(address, prompt="memorized 2")
    answer = json.loads(content)
    assert status == 409 and answer["seen"]["withheld"] and len(answer["seen"]["attempts"]) == 2


def test_calls_at_once_do_not_mix(address: str) -> None:
    alone = [asked(address, prompt=f"ordinary {k}", seed=k)[1] for k in range(3)]
    with ThreadPoolExecutor(3) as threads:
        assert list(threads.map(lambda k: asked(address, prompt=f"ordinary {k}", seed=k)[1], range(3))) == alone


@pytest.mark.parametrize("given", [{}, {"prompt": ""}, {"prompt": "x", "seed": -1}])
def test_a_call_that_makes_no_sense_is_refused(address: str, given: dict) -> None:
    assert asked(address, **given)[0] == 422
