"""Paths that lead nowhere are called that, with the name that was perhaps meant."""

import difflib
import re
from pathlib import Path

from mnemoscope.errors import UsageError

ENDINGS = (".safetensors", ".ckpt", ".bin", ".pt", ".pth", ".gguf", ".json", ".yaml", ".zip", ".tar")
HUB_ID = re.compile(r"[\w][\w.-]*/[\w][\w.-]*")
MANY = 10_000  # names of a folder that are looked through


def meant(path: str | Path) -> str:
    """', did you mean X?' for the path that is nearest to one that does not exist; an empty text if none is near."""
    path = Path(path).expanduser()
    whole = [*reversed(path.parents), path]
    first = next((p for p in whole if not p.exists()), path)
    try:
        names = [p.name for p, _ in zip(first.parent.iterdir(), range(MANY), strict=False)]
    except OSError:
        return ""
    near = difflib.get_close_matches(first.name, names, n=1, cutoff=0.6)
    if not near:
        return ""
    guess = first.parent / near[0] / path.relative_to(first)
    return f"; did you mean {guess if guess.exists() else first.parent / near[0]}?"


def on_the_hub(model: str) -> bool:
    """Whether a name that is no path here can be a hub id: `owner/name` whose owner is no folder here, or cached."""
    from huggingface_hub import try_to_load_from_cache

    if not HUB_ID.fullmatch(model) or model.lower().endswith(ENDINGS):
        return False
    owner = Path(model.partition("/")[0])
    return not owner.is_dir() or isinstance(try_to_load_from_cache(model, "model_index.json"), str)


def refuse_absent(model: str) -> None:
    """Raise `UsageError` for a MODEL that is neither here nor a hub id."""
    bundled = difflib.get_close_matches(model, ["demo", "demo-flow"], n=1, cutoff=0.7)
    near = f"; did you mean {bundled[0]}?" if bundled else meant(model)
    raise UsageError(
        f"There is no model at '{model}'{near or '; give demo, demo-flow, a folder, a .safetensors file or a hub id.'}"
    )
