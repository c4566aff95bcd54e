"""A run: a folder with what was asked, one row for each prompt or image, and a summary; safe against `kill -9`."""

import json
import os
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from mnemoscope.errors import UsageError
from mnemoscope.run.asked import asked_of, both_known_by
from mnemoscope.run.environment import environment

OWN_FILES = """
    rows.jsonl matches.parquet manifest.parquet probes.jsonl losses.jsonl work.jsonl summary.json report.html
    data.zip partial-data.zip
    wen.jsonl wen-negatives.jsonl attributions.json perturbations.json nemo.csv
    statistics.safetensors calibration.json table.csv run.json
""".split()
OWN_FOLDERS = """
    images features arrays references plots detect generate measure explain mitigate checkpoints previews pipeline
    lora latents trackers scenes trainings snapshots
""".split()


class Run:
    """An open run that appends rows. Opening the folder of an earlier run with the same settings goes on with it.

    Whole groups of rows are appended at once and flushed to the disk; a row torn by a kill is dropped on opening, and
    so are failed rows, which are tried again. Raises `UsageError` if the folder holds something else, a run with other
    settings (unless `overwrite`), or a run that another process has open.
    """

    def __init__(
        self, folder: Path | str, command: str, settings: Mapping[str, Any], *, overwrite: bool = False, **record: Any
    ) -> None:
        self.folder = Path(folder)
        self.record: dict[str, Any] = {"command": command, "settings": _plain(settings), **_plain(record)}
        self._make_folder()
        self._lock = FileLock(self.folder / ".lock")
        try:
            self._lock.acquire(timeout=0)
        except Timeout as e:
            raise UsageError(f"{self.folder} is in use by another process; wait for it or give another --out.") from e
        try:
            self._open(overwrite)
        except BaseException:
            self.close()
            raise

    def _make_folder(self) -> None:
        if self.folder.exists() and not self.folder.is_dir():
            raise UsageError(f"{self.folder} is a file; give a folder as --out.")
        if self.folder.is_dir() and _strangers(self.folder):
            raise UsageError(f"{self.folder} is not empty and holds no run; give a new folder as --out.")
        self.folder.mkdir(parents=True, exist_ok=True)

    def _open(self, overwrite: bool) -> None:
        if overwrite:
            clear(self.folder)
        rows = read_rows(self.folder)
        if (self.folder / "run.json").exists() and (rows or _parts(self.folder)):
            self._compare(read_json(self.folder / "run.json"))
        else:
            write_json(self.folder / "run.json", self.record | asked_of(self.folder) | environment())
        kept = [r for r in rows if r["status"] == "ok"]
        self.replace_rows(kept)
        _replace(self.folder / "work.jsonl", "".join(line + "\n" for line in _lines(self.folder / "work.jsonl")))
        self.done = {r["id"] for r in kept}

    def _compare(self, before: dict[str, Any]) -> None:
        there, here = both_known_by(self.folder, before)
        for part, own in (self.record | {"asked": _plain(here)}).items():
            difference = differing(there if part == "asked" else before.get(part), own)
            if difference:
                what = f"{part}: {difference}"
                raise UsageError(
                    f"{self.folder} holds a run with other settings ({what}); use --overwrite or another --out."
                )

    def append(self, rows: Iterable[Mapping[str, Any]], *, evaluations: int = 0, seconds: float = 0.0) -> None:
        """Write rows that are not there yet, all in one go, with the work that they took."""
        new = [r for r in rows if r["id"] not in self.done]
        _append(self.folder / "rows.jsonl", [json.dumps(_plain(r), ensure_ascii=False) for r in new])
        _append(self.folder / "work.jsonl", [json.dumps({"evaluations": evaluations, "seconds": round(seconds, 3)})])
        self.done.update(r["id"] for r in new)

    def replace_rows(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Put other rows in the place of all rows, atomically."""
        lines = [json.dumps(_plain(r), ensure_ascii=False) + "\n" for r in rows]
        _replace(self.folder / "rows.jsonl", "".join(lines))

    def rows(self) -> list[dict[str, Any]]:
        return read_rows(self.folder)

    def finish(self, **summary: Any) -> dict[str, Any]:
        """Write the summary, with the number of rows, of failures, and the work of all sessions."""
        rows = self.rows()
        work = [json.loads(line) for line in _lines(self.folder / "work.jsonl")]
        whole = {
            "rows": len(rows),
            "failed": sum(r["status"] != "ok" for r in rows),
            "network_evaluations": sum(w["evaluations"] for w in work),
            "seconds": round(sum(w["seconds"] for w in work), 3),
            **summary,
        }
        write_json(self.folder / "summary.json", whole)
        return whole

    def close(self) -> None:
        self._lock.release()

    def __enter__(self) -> "Run":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def read_json(file: Path) -> dict[str, Any]:
    """A JSON object; raises `UsageError` if there is none."""
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as e:
        raise UsageError(f"{file} is not a readable JSON file: {e}") from e
    if not isinstance(value, dict):
        raise UsageError(f"{file} holds no JSON object.")
    return value


def write_json(file: Path, value: Mapping[str, Any]) -> None:
    """Write a JSON object so that a crash leaves either the old file or the new one."""
    _replace(file, json.dumps(_plain(value), indent=2, ensure_ascii=False) + "\n")


def read_rows(folder: Path) -> list[dict[str, Any]]:
    """Rows of a run; a last line without its end, torn by a crash, is left out."""
    rows = []
    for number, line in enumerate(_lines(folder / "rows.jsonl"), 1):
        try:
            row = json.loads(line)
            row["id"], row["status"]
            rows.append(row)
        except (ValueError, TypeError, KeyError) as e:
            damaged = f"{folder / 'rows.jsonl'}, line {number}"
            raise UsageError(f"{damaged} is no row; the run was edited or damaged, so give another --out.") from e
    return rows


def read_table(file: Path) -> list[dict[str, Any]]:
    """The objects of a file with one on each line; none where there is no file."""
    return [json.loads(line) for line in _lines(file)]


def write_table(file: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write objects, one on each line, so that a crash leaves either the old file or the new one."""
    _replace(file, "".join(json.dumps(row, ensure_ascii=True) + "\n" for row in rows))


def clear(folder: Path) -> None:
    """Delete what a run wrote into its folder, and nothing else; `run.json`, which says that it is a run, goes last."""
    for name in OWN_FOLDERS:
        shutil.rmtree(folder / name, ignore_errors=True)
    for name in OWN_FILES:
        (folder / name).unlink(missing_ok=True)


def _strangers(folder: Path) -> bool:
    """Whether a folder holds anything and is no run; a run that died while it began has no more than these two."""
    if (folder / "run.json").exists():
        return "command" not in read_json(folder / "run.json")
    return any(p.name not in (".lock", "run.json.partial") for p in folder.iterdir())


def _parts(folder: Path) -> bool:
    return any((folder / name).exists() for name in OWN_FOLDERS)


def _plain(value: Any) -> Any:
    return json.loads(json.dumps(value, default=str))


def differing(there: Any, here: Any, name: str = "") -> str:
    """The first setting that is not the same in two records, with both values; an empty text if all are the same."""
    if there == here:
        return ""
    if isinstance(there, dict) and isinstance(here, dict):
        deeper = (differing(there.get(k), here.get(k), f"{name}.{k}".lstrip(".")) for k in {**there, **here})
        return next(filter(None, deeper), "")
    return f"{name} {_short(there)} there, {_short(here)} here".lstrip()


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _lines(file: Path) -> list[str]:
    if not file.exists():
        return []
    whole = file.read_bytes().rpartition(b"\n")[0]
    return whole.decode("utf-8", "replace").split("\n") if whole else []


def _append(file: Path, lines: list[str]) -> None:
    with file.open("ab") as f:
        f.write(_bytes("".join(line + "\n" for line in lines)))
        f.flush()
        os.fsync(f.fileno())


def _replace(file: Path, text: str) -> None:
    partial = file.with_name(file.name + ".partial")
    with partial.open("wb") as f:
        f.write(_bytes(text))
        f.flush()
        os.fsync(f.fileno())
    partial.replace(file)


def _bytes(text: str) -> bytes:
    """JSON text in UTF-8, in which half a character, which UTF-8 cannot hold, is written as JSON's escape for it."""
    return text.encode("utf-8", "backslashreplace")
