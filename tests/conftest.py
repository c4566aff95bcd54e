"""One torch thread, quiet libraries, no hub: what every test needs before anything else is imported."""

import gc
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MKL_CBWR", "COMPATIBLE")  # the same bits wherever numbers lie in memory, on any processor
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # programs that tests start are compiled once
sys.dont_write_bytecode = False
gc.disable()  # until the tests are collected: what is imported is no garbage, and is not looked through again and again

import pytest  # noqa: E402
import torch  # noqa: E402

torch.set_num_threads(1)
with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # what the libraries say about one another while they are imported
    import diffusers  # noqa: F401
    import transformers  # noqa: F401

import signatures  # noqa: E402

signatures.install()

from mnemoscope.model.denoiser import Denoiser  # noqa: E402
from mnemoscope.model.loading import quiet  # noqa: E402

quiet()


def pytest_collection_finish() -> None:
    gc.freeze()
    gc.enable()


ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def shared() -> Path:
    """Data and parity fixtures that lie beside a development checkout, and nowhere else."""
    folder = ROOT.parent / "shared"
    if not folder.is_dir():
        pytest.skip("the development data folder is not beside this checkout")
    return folder


@pytest.fixture
def planted() -> Iterator[Denoiser]:
    from mnemoscope import planted

    yield planted.model()


@pytest.fixture(scope="session")
def bundled() -> Denoiser:
    return Denoiser.from_pretrained("demo", device="cpu")


@pytest.fixture
def mnemoscope(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple]:
    """Give a command in this process: its exit code, what it printed, and what it printed as an error."""
    from mnemoscope import cli

    monkeypatch.setenv("COLUMNS", "200")
    for module in ("mnemoscope.model.loading", "mnemoscope.emm.ratio.command"):
        monkeypatch.setattr(f"{module}.settle_threads", lambda: 1)

    def run(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["mnemoscope", *map(str, words)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as left:
            cli.main()
        printed = capsys.readouterr()
        return left.value.code, printed.out, printed.err

    return run
