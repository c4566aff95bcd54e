"""A run: a folder with what was asked, one row for each prompt or image, and a summary; safe against `kill -9`."""

import json
import os
import platform
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from mnemoscope.errors import UsageError

OWN_FILES = ("run.json", "rows.jsonl", "work.jsonl", "summary.json", "report.html", "wen.jsonl")
OWN_FOLDERS = ("images", "arrays", "references", "plots", "detect", "generate")
VERSIONS = ("mnemoscope", "torch", "diffusers", "transformers", "numpy")


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
        strange = self.folder.is_dir() and not (self.folder / "run.json").exists() and _strangers(self.folder)
        if strange:
            raise UsageError(f"{self.folder} is not empty and holds no run; give a new folder as --out.")
        self.folder.mkdir(parents=True, exist_ok=True)

    def _open(self, overwrite: bool) -> None:
        if overwrite:
            clear(self.folder)
        if (self.folder / "run.json").exists():
            self._compare(read_json(self.folder / "run.json"))
            kept = [r for r in read_rows(self.folder) if r["status"] == "ok"]
            self.replace_rows(kept)
        else:
            write_json(self.folder / "run.json", self.record | environment())
            kept = []
        self.done = {r["id"] for r in kept}

    def _compare(self, before: dict[str, Any]) -> None:
        for part in self.record:
            difference = _difference(before.get(part), self.record[part])
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
            **summary,
            "rows": len(rows),
            "failed": sum(r["status"] != "ok" for r in rows),
            "network_evaluations": sum(w["evaluations"] for w in work),
            "seconds": round(sum(w["seconds"] for w in work), 3),
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
            rows.append(json.loads(line))
        except ValueError as e:
            damaged = f"{folder / 'rows.jsonl'}, line {number}"
            raise UsageError(f"{damaged} is not JSON; the run was edited or damaged, so give another --out.") from e
    return rows


def clear(folder: Path) -> None:
    """Delete what a run wrote into its folder, and nothing else."""
    for name in OWN_FILES:
        (folder / name).unlink(missing_ok=True)
    for name in OWN_FOLDERS:
        shutil.rmtree(folder / name, ignore_errors=True)


def environment() -> dict[str, Any]:
    """Versions, code identity, machine and time of a run, for its record."""
    here = Path(__file__).parent
    git = subprocess.run(
        ["git", "-C", str(here), "describe", "--always", "--dirty"], capture_output=True, text=True, check=False
    )
    return {
        "versions": {"python": platform.python_version(), **{name: _version(name) for name in VERSIONS}},
        "git": git.stdout.strip() or None,
        "machine": platform.machine(),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _strangers(folder: Path) -> bool:
    return any(p.name not in (*OWN_FILES, *OWN_FOLDERS, ".lock") for p in folder.iterdir())


def _plain(value: Any) -> Any:
    return json.loads(json.dumps(value, default=str))


def _difference(there: Any, here: Any) -> str:
    """The first setting that is not the same, or an empty text."""
    if isinstance(there, dict) and isinstance(here, dict):
        for key in {**there, **here}:
            if there.get(key) != here.get(key):
                return f"{key} {_short(there.get(key))} there, {_short(here.get(key))} here"
        return ""
    return "" if there == here else f"{_short(there)} there, {_short(here)} here"


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _lines(file: Path) -> list[str]:
    if not file.exists():
        return []
    return file.read_bytes().rpartition(b"\n")[0].decode("utf-8", "replace").split("\n") if file.stat().st_size else []


def _append(file: Path, lines: list[str]) -> None:
    with file.open("ab") as f:
        f.write("".join(line + "\n" for line in lines).encode())
        f.flush()
        os.fsync(f.fileno())


def _replace(file: Path, text: str) -> None:
    partial = file.with_name(file.name + ".partial")
    with partial.open("wb") as f:
        f.write(text.encode())
        f.flush()
        os.fsync(f.fileno())
    partial.replace(file)
