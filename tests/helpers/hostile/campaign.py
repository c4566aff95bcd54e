"""The campaign by hand: `make hostile`, or `python -m hostile.campaign --kills 500 --inputs 1000` in tests/."""

import argparse
import json
import os
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["HF_HUB_OFFLINE"] = "1"

import torch
from matplotlib.figure import Figure

from hostile.children import child, command, opened_before, save_as_data
from hostile.inputs import attacks, judged
from hostile.kills import killed
from hostile.verbs import READ, Inputs, make_runs, verbs


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=500)
    parser.add_argument("--inputs", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=1e9)
    parser.add_argument("--only", default="", help="names of commands and of readers, with commas between")
    parser.add_argument("--log", type=Path, default=Path("hostile.jsonl"))
    asked = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder, asked.log.open("a") as log:
        inputs = prepared(Path(folder))
        until = time.monotonic() + 60 * asked.minutes
        wrong = _kills(inputs, asked, log, until) + _inputs(inputs, asked, log, until)
    sys.exit(1 if wrong else 0)


def prepared(folder: Path) -> Inputs:
    """Inputs of all commands and the runs that some begin with, with models opened and drawings made cheap."""
    from mnemoscope.model import loading
    from mnemoscope.report.page import templates

    inputs = Inputs(folder / "inputs").make()
    loading.open_model = opened_before(["demo", inputs.model])
    Figure.savefig = save_as_data  # type: ignore[method-assign]
    for name in templates().list_templates():
        templates().get_template(name)
    make_runs(inputs, _give)
    return inputs


def _give(words: Sequence[object]) -> None:
    ended = child(command(words))
    if ended.code:
        raise RuntimeError(f"{words}: {ended.said}")


def _kills(inputs: Inputs, asked: Any, log: Any, until: float) -> int:
    known = {k: v for k, v in verbs(inputs).items() if not asked.only or k in asked.only.split(",")}
    each, counts, wrong = -(-asked.kills // max(1, len(known))), Counter[str](), 0
    for verb, words in known.items() if asked.kills else ():
        rng, began = random.Random(f"{asked.seed} {verb}"), time.monotonic()
        try:
            for found in killed(verb, words, inputs.folder / f"kills-{verb.replace(' ', '-')}", each, rng):
                counts[verb] += 1
                wrong += bool(found.wrong)
                _tell(log, {"kill": found.verb, "at": found.at, "wrong": found.wrong})
                if time.monotonic() > until:
                    break
        except RuntimeError as e:
            wrong += 1
            _tell(log, {"kill": verb, "at": 0, "wrong": str(e)[-600:]})
        print(f"{verb}: {counts[verb]} kills in {time.monotonic() - began:.0f} s", flush=True)
        if time.monotonic() > until:
            break
    print(f"{counts.total()} kills of {len(counts)} commands, {wrong} not as if they had not been", flush=True)
    return wrong


def _inputs(inputs: Inputs, asked: Any, log: Any, until: float) -> int:
    done, wrong, codes = 0, 0, Counter[int]()
    make_runs(inputs, _give, READ if asked.inputs else ())
    for attack in attacks(inputs, random.Random(asked.seed), asked.inputs):
        if asked.only and attack.reader not in asked.only.split(",") or time.monotonic() > until:
            continue
        ended = child(command(attack.words), patience=300)
        said = judged(ended)
        done, codes[ended.code], wrong = done + 1, codes[ended.code] + 1, wrong + bool(said)
        _tell(log, {"reader": attack.reader, "how": attack.how, "code": ended.code, "wrong": said})
    print(f"{done} inputs, exit codes {dict(codes)}, {wrong} without one sentence", flush=True)
    return wrong


def _tell(log: Any, what: dict[str, Any]) -> None:
    log.write(json.dumps(what) + "\n")
    log.flush()
    if what["wrong"]:
        print(json.dumps(what)[:600], flush=True)


if __name__ == "__main__":
    main()
