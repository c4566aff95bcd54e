"""A run: a folder with what was asked, one row for each prompt or image, and a summary; safe against `kill -9`."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, overload

from filelock import FileLock, Timeout

from mnemoscope.errors import UsageError
from mnemoscope.run import schema
from mnemoscope.run.activity import MOMENT
from mnemoscope.run.asked import asked_of, both_known_by
from mnemoscope.run.environment import environment, keep_threads
from mnemoscope.run.reading import Json, lines, read_json, read_table
from mnemoscope.run.records import differing, read_record, read_rows, refuse_infinite, rows_of
from mnemoscope.run.rows import AnyRow, Kind, R, ReadRow
from mnemoscope.run.whole import is_whole
from mnemoscope.run.work import Work, read_work, torn, totals, work_of
from mnemoscope.run.writing import append_lines, clean, is_partial, remove, write_whole

__all__ = ["Run", "clear", "differing", "read_json", "read_record", "read_rows", "read_table"]
__all__ += ["write_json", "write_table"]

# Rows and the summary go first: what is left of a run that is deleted must never say that something is there.
OWN_FILES = """
    rows.jsonl summary.json report.html work.jsonl
    matches.parquet manifest.parquet probes.jsonl losses.jsonl curves.csv
    data.zip partial-data.zip
    wen.jsonl wen-negatives.jsonl attributions.json perturbations.json nemo.csv
    statistics.safetensors hits.jsonl calibration.json table.csv table.md seal.json
""".split()
OWN_FOLDERS = """
    plots gate detect generate measure explain mitigate finetune base repaired extrapolated
    checkpoints trackers trainings snapshots pipeline pipelines lora
    cells arrays features latents scenes previews references images
""".split()


class Run:
    """An open run that appends rows. Opening the folder of an earlier run with the same settings goes on with it.

    Whole groups of rows are appended at once and flushed to the disk; a row torn by a kill is dropped on opening, and
    so are failed rows and rows whose files are not there or torn, which are computed again. Raises `UsageError` if the
    folder holds something else, a run with other settings (unless `overwrite`), or a run that another process has open.
    """

    def __init__(
        self, folder: Path | str, command: str, settings: Mapping[str, Any], *, overwrite: bool = False, **record: Any
    ) -> None:
        self.folder = Path(folder)
        refuse_infinite(settings)
        self.record: Json = {"command": command, "settings": _plain(settings), **_plain(record)}
        self._make_folder()
        self._lock = FileLock(self.folder / ".lock")
        try:
            self._lock.acquire(timeout=MOMENT)
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
        clean(self.folder)
        if (self.folder / "run.json").exists() and (lines(self.folder / "rows.jsonl") or _parts(self.folder)):
            record = read_record(self.folder)
            self._compare(record)
            keep_threads(record.get("threads"))
        else:
            asked = asked_of(self.folder)
            refuse_infinite(asked)
            version = schema.version_of(self.record["command"])
            write_json(self.folder / "run.json", {**self.record, "schema": version, **asked, **environment()})
        rows = self.rows()
        kept = [r for r in rows if r["status"] == "ok" and self._has_files(r)]
        self._replace_rows(kept)
        self._write_work(read_work(self.folder))
        self.done = {r["id"] for r in kept}

    def _has_files(self, row: ReadRow) -> bool:
        kind = schema.row_type(self.record["command"])
        return all(is_whole(self.folder / name) for name in schema.files_of(row, kind))

    def require_files(self, rows: Iterable[ReadRow]) -> None:
        """Raises `UsageError` unless the files of rows that were made elsewhere are here."""
        if not all(self._has_files(row) for row in rows):
            raise UsageError(
                f"What a worker drew is not in {self.folder}; give a folder as --out that all machines share."
            )

    def _compare(self, before: Json) -> None:
        there, here = both_known_by(self.folder, before)
        for part, value in (self.record | {"asked": _plain(here)}).items():
            difference = differing(_compared(there if part == "asked" else before.get(part)), _compared(value))
            if difference:
                what = f"{part}: {difference}"
                raise UsageError(
                    f"{self.folder} holds a run with other settings ({what}); use --overwrite or another --out."
                )

    def append(
        self, rows: Iterable[Mapping[str, Any]], *, evaluations: int = 0, seconds: float = 0.0, part: str | None = None
    ) -> None:
        """Write rows that are not there yet, all in one go, with the work that they took.

        Work without rows is of a `part` of the run by its name, and takes the place of what was said of that before.
        The work goes first: it counts once its rows are there, so that a kill between the two leaves neither.
        """
        made = list(rows)
        work: Work = {"evaluations": evaluations, "seconds": round(seconds, 3)}
        work |= {"rows": [r["id"] for r in made]} if made else {"part": part or self.record["command"]}
        append_lines(self.folder / "work.jsonl", [json.dumps(work)])
        new = [r for r in made if r["id"] not in self.done]
        append_lines(self.folder / "rows.jsonl", [_line(r) for r in new])
        self.done.update(r["id"] for r in new)

    def replace_rows(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Put other rows in the place of all rows, atomically."""
        kept = list(rows)
        self._replace_rows(kept)
        self.done = {r["id"] for r in kept}

    def _replace_rows(self, rows: Iterable[Mapping[str, Any]]) -> None:
        write_whole(self.folder / "rows.jsonl", "".join(_line(r) + "\n" for r in rows))

    def _write_work(self, work: Iterable[Work]) -> None:
        write_whole(self.folder / "work.jsonl", "".join(json.dumps(each) + "\n" for each in work))

    @overload
    def rows(self) -> list[AnyRow]: ...
    @overload
    def rows(self, kind: Kind[R]) -> list[R]: ...
    def rows(self, kind: Kind[Any] = AnyRow) -> list[Any]:
        """The rows so far, taken for a kind that all of them are of."""
        return rows_of(self.folder, self.record["command"], kind)

    def is_whole(self, rows: Iterable[str]) -> bool:
        """Whether there are rows, and with each of them all that were appended together: a kill may leave some."""
        found = set(rows)
        return bool(found) and found.isdisjoint(torn(read_work(self.folder), self.done))

    def finish(self, **summary: Any) -> Json:
        """Write the summary, with the number of rows, of failures, and the work that these rows took."""
        rows = self.rows()
        work = work_of(read_work(self.folder), {r["id"] for r in rows})
        self._write_work(work)
        counts = {"rows": len(rows), "failed": sum(r["status"] != "ok" for r in rows), **totals(work)}
        whole = {**counts, **summary}
        write_json(self.folder / "summary.json", whole)
        return _plain(whole)

    def close(self) -> None:
        self._lock.release()

    def __enter__(self) -> "Run":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def write_json(file: Path, value: Mapping[str, Any]) -> None:
    """Write a JSON object so that a crash leaves either the old file or the new one."""
    write_whole(file, json.dumps(_plain(value), indent=2, ensure_ascii=False) + "\n")


def write_table(file: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write objects, one on each line, so that a crash leaves either the old file or the new one."""
    write_whole(file, "".join(json.dumps(row, ensure_ascii=True) + "\n" for row in rows))


def clear(folder: Path) -> None:
    """Delete what a run wrote into its folder, and nothing else; `run.json`, which says that it is a run, goes last."""
    for name in (*OWN_FILES, *OWN_FOLDERS, "run.json"):
        remove(folder / name)


def _strangers(folder: Path) -> bool:
    """Whether a folder holds anything and is no run; a run that died while it began has no more than these two."""
    if (folder / "run.json").exists():
        return "command" not in read_json(folder / "run.json")
    return any(p.name != ".lock" and not is_partial(p.name) for p in folder.iterdir())


def _compared(value: Any) -> Any:
    """A part of a record without what libraries said, and a model's size, which the shape of its latents says."""
    return {k: v for k, v in value.items() if k not in ("warnings", "size")} if isinstance(value, dict) else value


def _parts(folder: Path) -> bool:
    """Whether anything was computed; vectors of images by their content are as good for other settings."""
    return any((folder / name).exists() for name in OWN_FOLDERS if name != "features")


def _line(row: Mapping[str, Any]) -> str:
    return json.dumps(_plain(row), ensure_ascii=False)


def _plain(value: Any) -> Any:
    """A value as JSON has it; what is no number is null, and what JSON does not know its text."""
    return json.loads(json.dumps(value, default=str), parse_constant=lambda name: None)
