"""Sources that lead astray: links, special files, bombs, closed folders, names that are no text, files elsewhere."""

import io
import json
import os
import stat
import struct
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mnemoscope.errors import UsageError
from mnemoscope.pictures import Unreadable, open_source, read_pictures
from mnemoscope.pictures import zips as zip_files
from mnemoscope.pictures.tables import picture as row_picture
from picture_files import reasons


def png(seed: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def folder(path: Path, files: dict[str, bytes | str]) -> Path:
    for name, data in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(data.encode() if isinstance(data, str) else data)
    return path


# Tars


def tar_of(path: Path, *members: tuple[str, bytes | tarfile.TarInfo]) -> Path:
    with tarfile.open(path, "w") as archive:
        for name, data in members:
            info = tarfile.TarInfo(name) if isinstance(data, bytes) else data
            info.name, info.size = name, len(data) if isinstance(data, bytes) else 0
            archive.addfile(info, io.BytesIO(data) if isinstance(data, bytes) else None)
    return path


def link(target: str, kind: bytes = tarfile.SYMTYPE) -> tarfile.TarInfo:
    info = tarfile.TarInfo("")
    info.type, info.linkname = kind, target
    return info


def test_a_tar_of_a_folder_holds_what_the_folder_holds(tmp_path: Path) -> None:
    """Hard links, symbolic links and their texts; made by the standard library as by tar itself."""
    files = folder(tmp_path / "set", {"a.png": png(0), "a.txt": "one fox", "d/b.png": png(1), "d/b.txt": "two bees"})
    for name in ("a.png", "a.txt"):
        os.link(files / name, files / f"z{name}")
    (files / "s.png").symlink_to("d/b.png")
    (files / "d" / "up.png").symlink_to("../a.png")
    with tarfile.open(tmp_path / "set.tar", "w") as archive:
        archive.add(files, ".")
    told = [
        {p.key.removeprefix("set.tar:./").removesuffix(".png"): (p.sha256(), p.captions) for p in read_pictures(source)}
        for source in (files, tmp_path / "set.tar")
    ]
    assert told[0] == told[1] and len(told[0]) == 5
    assert told[0]["za"][1] == ("one fox",) and told[0]["s"][1] == ()


def test_links_of_a_tar_that_lead_nowhere_are_counted(tmp_path: Path) -> None:
    fifo, device = link("", tarfile.FIFOTYPE), link("", tarfile.CHRTYPE)
    source = tar_of(
        tmp_path / "x.tar",
        ("a.png", png(0)),
        ("gone.png", link("b.png")),
        ("out.png", link("../../../etc/passwd")),
        ("one.png", link("two.png")),
        ("two.png", link("one.png")),
        ("self.png", link("self.png", tarfile.LNKTYPE)),
        ("late.png", link("z/z.png", tarfile.LNKTYPE)),
        ("pipe.png", fifo),
        ("zero.png", device),
        ("z/z.png", png(1)),
    )
    assert reasons(source) == {
        "x.tar:a": "ok",
        "x.tar:gone": "missing: a link to 'b.png', which is not in its tar file",
        "x.tar:out": "missing: a link to '../../../etc/passwd', which is not in its tar file",
        "x.tar:one": "missing: a link that leads to no file",
        "x.tar:two": "missing: a link that leads to no file",
        "x.tar:self": "missing: a link that leads to no file",
        "x.tar:late": "ok",
        "x.tar:pipe": "unreadable: not a regular file",
        "x.tar:zero": "unreadable: not a regular file",
        "x.tar:z/z": "ok",
    }


def test_samples_of_two_parts_and_failed_downloads(tmp_path: Path) -> None:
    failed = json.dumps({"caption": "two bees", "status": "failed_to_download", "error_message": "timeout"})
    source = tar_of(
        tmp_path / "x.tar",
        ("0.input.png", png(0)), ("0.outputs.txt", b"one fox"),
        ("1.json", failed.encode()), ("1.txt", b"two bees"),
        ("p.v1.0.png", png(1)), ("p.v1.1.txt", b"of another picture"),
        ("cat.png", png(2)), ("cat.crop.txt", b"of a part"),
        ("5.png", png(3)), ("5.cls", b"7"),
    )  # fmt: skip
    opened = open_source(source)
    found = {p.key.removeprefix("x.tar:"): p for p in opened}
    assert [p.captions for p in found.values()] == [
        ("one fox",), ("two bees",), (), ("of another picture",), (), ()
    ]  # fmt: skip
    assert reasons(source)["x.tar:1"] == "missing: not downloaded: timeout"
    assert reasons(source)["x.tar:p.v1.1"] == "missing: no image in the sample"
    assert opened.unmatched == ["cat.crop.txt"] and found["5"].kind == "7"


def test_a_header_that_leads_backwards_ends_the_tar(tmp_path: Path) -> None:
    """A negative size in a PAX header, which the standard library follows for ever on some versions."""
    info = tarfile.TarInfo("b.png")
    info.pax_headers = {"size": "-1024"}
    with tarfile.open(tmp_path / "x.tar", "w", format=tarfile.PAX_FORMAT) as archive:
        first = tarfile.TarInfo("a.png")
        first.size = len(png(0))
        archive.addfile(first, io.BytesIO(png(0)))
        archive.addfile(info)
    found = reasons(tmp_path / "x.tar")
    assert found["x.tar:a"] == "ok" and any("damaged" in reason for reason in found.values())


# Zips


def test_links_and_bombs_of_a_zip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zip_files, "ROOM", 2**20)
    with zipfile.ZipFile(tmp_path / "x.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.png", png(0))
        archive.writestr("bomb.png", bytes(2**24))
        for name, target in (("s.png", "a.png"), ("gone.png", "../../etc/passwd"), ("loop.png", "loop.png")):
            info = zipfile.ZipInfo(name)
            info.external_attr = (stat.S_IFLNK | 0o777) << 16
            archive.writestr(info, target)
    found = reasons(tmp_path / "x.zip")
    assert found["x.zip:a.png"] == found["x.zip:s.png"] == "ok"
    assert found["x.zip:bomb.png"].startswith("unreadable: more than 2 MiB, 100 times")
    assert found["x.zip:gone.png"] == "missing: a link to '../../etc/passwd', which is not in its zip file"
    assert found["x.zip:loop.png"] == "unreadable: a link that leads to no file"


def test_a_bomb_of_captions_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zip_files, "ROOM", 2**20)
    with zipfile.ZipFile(tmp_path / "x.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.png", png(0))
        archive.writestr("metadata.csv", "file_name,text\n" + "a.png,x\n" * 2**21)
    with pytest.raises(UsageError, match=r"metadata\.csv cannot be read: more than \d+ MiB, 100 times"):
        open_source(tmp_path / "x.zip")


def test_members_that_lie_over_one_another_are_a_bomb(tmp_path: Path) -> None:
    """Every entry of the directory names the same bytes of the file."""
    with zipfile.ZipFile(tmp_path / "one.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.png", os.urandom(4000))
    data = (tmp_path / "one.zip").read_bytes()
    start, end = data.index(b"PK\x01\x02"), data.index(b"PK\x05\x06")
    entry = data[start:end]
    many = entry * 50
    tail = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 50, 50, len(many), start, 0)
    (tmp_path / "x.zip").write_bytes(data[:start] + many + tail)
    assert "lie over one another" in reasons(tmp_path / "x.zip")["x.zip"]


# Folders


def test_special_files_and_links_in_circles(tmp_path: Path) -> None:
    source = folder(tmp_path / "set", {"a.png": png(0)})
    os.mkfifo(source / "pipe.png")
    os.mkfifo(source / "a.txt")
    (source / "zero.png").symlink_to("/dev/zero")
    (source / "loop.png").symlink_to("loop.png")
    (source / "deep").symlink_to(".")
    found = reasons(source)
    assert found["a.png"] == "ok" and found["pipe.png"] == found["zero.png"] == "unreadable: not a regular file"
    assert found["loop.png"].startswith("unreadable: the file cannot be read") and len(found) == 4
    os.mkfifo(source / "captions.jsonl")
    with pytest.raises(UsageError, match="captions.jsonl cannot be read: not a regular file"):
        open_source(source)


def test_folders_a_thousand_levels_deep(tmp_path: Path) -> None:
    source = folder(tmp_path / "set", {"a.png": png(0)})
    here = os.open(source, os.O_RDONLY)
    for _ in range(1100):  # deeper than the interpreter's stack; names beyond what the system takes are counted
        os.mkdir("d", dir_fd=here)
        here, above = os.open("d", os.O_RDONLY, dir_fd=here), here
        os.close(above)
    os.close(here)
    try:
        assert reasons(source)["a.png"] == "ok"
    finally:
        subprocess.run(["rm", "-rf", source], check=True)  # what cleans up after tests is no deeper than the stack


UNPRIVILEGED = """
import os, sys, encodings.utf_8_sig
from PIL import Image
from mnemoscope.pictures import open_source
Image.init()
os.setgid(65534); os.setuid(65534)
for p in open_source(sys.argv[1]):
    try:
        p.image(); print(p.key, "ok")
    except Exception as e:
        print(p.key, getattr(e, "status", ""), e)
"""


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="another user is needed")
def test_a_folder_that_may_not_be_entered_is_counted(tmp_path: Path) -> None:
    source = folder(tmp_path / "set", {"a.png": png(0), "closed/b.png": png(1)})
    for each in (*tmp_path.parents, tmp_path, source):
        if each.is_relative_to(tmp_path.parents[1]):
            each.chmod(0o755)
    (source / "closed").chmod(0)
    done = subprocess.run([sys.executable, "-c", UNPRIVILEGED, source], capture_output=True, text=True, check=False)
    if "Permission denied" in done.stderr:
        pytest.skip("the temporary folder is closed to other users")
    assert done.stdout.splitlines() == [
        "a.png ok", "closed unreadable the folder cannot be read: Permission denied",
    ]  # fmt: skip


def test_names_that_are_no_utf8_are_written_as_escapes(tmp_path: Path) -> None:
    source = folder(tmp_path / "set", {"a.png": png(0)})
    (source / os.fsdecode(b"caf\xe9.png")).write_bytes(png(1))
    assert reasons(source) == {"a.png": "ok", "caf\\udce9.png": "ok"}
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        archive.add(source, ".")
    assert set(reasons(tmp_path / "x.tar")) == {"x.tar:./a", "x.tar:./caf\\udce9"}


@pytest.mark.slow
def test_patterns_of_too_many_names_and_names_of_no_file(tmp_path: Path) -> None:
    for name, said in (
        ("{0..99999999999}.tar", "more than 1,000,000 files"),
        ("{0..9999}{0..9999}.tar", "more than 1,000,000 files"),
        ("x" * 5000, "cannot be read|There is nothing"),
        ("a\0b", "There is nothing"),
    ):
        with pytest.raises(UsageError, match=said):
            open_source(f"{tmp_path}/{name}")


# Files elsewhere


def test_a_run_cannot_name_files_outside_of_it(tmp_path: Path) -> None:
    secret = folder(tmp_path, {"secret.png": png(0)}) / "secret.png"
    names = ["images/a.png", "../secret.png", str(secret), "..\\secret.png"]
    rows = [
        {"id": f"p-{k}", "prompt_id": "p", "prompt": "x", "mitigation": [], "seed": k, "file": name, "status": "ok"}
        for k, name in enumerate(names)
    ]
    run = folder(tmp_path / "run", {"images/a.png": png(1), "rows.jsonl": "".join(json.dumps(r) + "\n" for r in rows)})
    folder(run, {"run.json": '{"command": "generate"}'})
    found = reasons(run)
    assert found.pop("images/a.png") == "ok" and len(found) == 3
    assert set(found.values()) == {"unreadable: its row names a file outside of the run"}


def test_a_row_of_a_saved_dataset_cannot_name_files_outside_of_it(tmp_path: Path) -> None:
    """As a hand-written table has them: the library itself writes the bytes of files into its own."""
    secret = folder(tmp_path, {"secret.png": png(0)}) / "secret.png"
    inside = folder(tmp_path / "saved", {"own.png": png(1)})
    (inside / "link.png").symlink_to(secret)

    def reason(path: str) -> str:
        row = {"image": {"bytes": None, "path": path}, "caption": "x"}
        try:
            return str(row_picture("set:0", row, "image", None, (inside.resolve(),)).image().size)
        except Unreadable as e:
            return e.reason

    outside = "its row names a file outside of the data set, which is not opened"
    for path in (str(secret), "../secret.png", str(inside / "link.png"), "/dev/zero", "/etc/passwd"):
        assert reason(path) == outside
    assert reason("own.png") == reason(str(inside / "own.png")) == "(8, 8)"


def test_a_damaged_index_is_no_source(tmp_path: Path) -> None:
    index = folder(tmp_path / "index", {"shards/x": ""})
    for meta in ({"identity": {}, "source": 5, "content": ""}, {"identity": {}, "source": "x", "content": None}):
        folder(index, {"meta.json": json.dumps(meta)})
        with pytest.raises(UsageError, match="does not say what the index was made of"):
            open_source(index)
    folder(index, {"meta.json": json.dumps({"identity": {}, "source": str(index), "content": ""})})
    with pytest.raises(UsageError, match="an index of an index"):
        open_source(index)
