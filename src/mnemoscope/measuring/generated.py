"""Generated images as a comparison takes them: a run of ours with all that it knows, or anyone's images."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from mnemoscope.errors import UsageError
from mnemoscope.measuring.comparison import Generated
from mnemoscope.pictures import Picture, read_pictures
from mnemoscope.prompts.prompt import Prompt
from mnemoscope.run.image_rows import GenerateRow
from mnemoscope.run.run import read_json, read_rows

NUMBERED = re.compile(r"(?:^|[^0-9])([0-9]{4,})_([0-9]+)\.[A-Za-z]+$")  # img_0007_02.jpg: prompt 7, image 2


def read_generated(
    source: str,
    *,
    prompts: Sequence[Prompt] = (),
    unmitigated: str | None = None,
    captions: Path | None = None,
    column: str | None = None,
    limit: int | None = None,
) -> list[Generated]:
    """Images of a run of `generate`, or of any source of pictures, whose captions are then the prompts.

    `prompts` says what was asked for where the images do not: as many images of each in natural order, or by number
    where the names have one, `img_0007_02.png` being an image of the eighth prompt. `unmitigated` holds the images
    without mitigation under the same names. Raises `UsageError` where the numbers do not fit.
    """
    folder = _run(Path(source))
    if folder is not None:
        found = of_run(folder)
    else:
        found = [of_picture(p) for p in read_pictures(source, captions=captions, column=column)]
    if prompts:
        found = _asked(found, prompts, source)
    if unmitigated is not None:
        found = _paired(found, unmitigated)
    if not found:
        raise UsageError(f"{source} holds no generated image; give a run of generate, or images.")
    return found[:limit]


def of_run(folder: Path) -> list[Generated]:
    """The images of a run that `generate` wrote, with their prompts, seeds, mitigations and unmitigated twins."""
    found = []
    for row in read_rows(folder, GenerateRow):
        if row["status"] == "ok":
            twin = row.get("baseline")
            found.append(
                Generated(
                    _file(folder, row["file"]),
                    row["prompt"],
                    _used(row),
                    row["prompt_id"],
                    row["seed"],
                    row.get("kind"),
                    row.get("label"),
                    tuple(row.get("mitigation") or ()),
                    _file(folder, twin) if twin else None,
                )
            )
    return found


def of_picture(picture: Picture) -> Generated:
    """An image of which nobody says more than its caption."""
    caption = picture.captions[0] if picture.captions else None
    return Generated(picture, caption, caption, caption or picture.key, kind=picture.kind)


def _run(path: Path) -> Path | None:
    """The folder of a run of generate: the path itself, or the part of an audit that drew images."""
    for folder in (path, path / "generate"):
        if (folder / "run.json").is_file() and read_json(folder / "run.json").get("command") == "generate":
            return folder
    return None


def _file(folder: Path, name: str) -> Picture:
    return Picture(name, (folder / name).read_bytes)


def _used(row: GenerateRow) -> str:
    """The prompt that the model read, which a mitigation may have changed."""
    return str((row.get("seen") or {}).get("used_prompt") or row["prompt"])


def _asked(found: list[Generated], prompts: Sequence[Prompt], source: str) -> list[Generated]:
    numbers = [NUMBERED.search(g.picture.key) for g in found]
    if all(numbers):
        places = [(int(n[1]), int(n[2])) for n in numbers if n]
    elif len(found) % len(prompts) == 0:
        each = len(found) // len(prompts)
        places = [divmod(k, each) for k in range(len(found))]
    else:
        raise UsageError(
            f"{source} holds {len(found)} images for {len(prompts)} prompts, not as many for each, and their names "
            "have no prompt number; name them like img_0007_02.png."
        )
    if beyond := [p for p, _ in places if p >= len(prompts)]:
        raise UsageError(
            f"{source} has an image of prompt {max(beyond)}, counted from 0, and {len(prompts)} prompts were given."
        )
    asked = [(g, prompts[place], seed) for g, (place, seed) in zip(found, places, strict=True)]
    return [
        replace(g, prompt=p.text, used=g.used or p.text, prompt_id=p.id, seed=seed, kind=p.kind, label=p.label)
        for g, p, seed in asked
    ]


def _paired(found: list[Generated], unmitigated: str) -> list[Generated]:
    from dataclasses import replace

    plain = {g.picture.key: g.picture for g in read_generated(unmitigated)}
    names = Counter(g.picture.key for g in found)
    lacking = [key for key in names if key not in plain]
    if lacking:
        raise UsageError(
            f"{unmitigated} lacks {len(lacking)} of the {len(found)} images, {lacking[0]} among them; it needs each "
            "image under the same name."
        )
    return [replace(g, baseline=plain[g.picture.key]) for g in found]
