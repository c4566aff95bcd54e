"""Packed tars: the same pictures as of the plain tar, as far as they can be unpacked, and no bomb."""

import bz2
import gzip
import pickle
import random
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from mnemoscope.pictures import open_source, packed, read_pictures
from mnemoscope.prompts.prompt import read_prompts
from picture_files import encoded, image, tarred

MEMBERS = [
    (f"{k}{end}", data) for k in range(3) for end, data in ((".png", encoded(image(k, 40, 40))), (".txt", f"c{k}"))
]
PACKED = {".tar.gz": "w:gz", ".tgz": "w:gz", ".tar.bz2": "w:bz2", ".TAR.XZ": "w:xz"}


def repacked(plain: Path, file: Path, mode: str) -> Path:
    with tarfile.open(plain) as old, tarfile.open(file, mode) as new:
        for member in old:
            new.addfile(member, old.extractfile(member))
    return file


@pytest.mark.parametrize("end", PACKED)
def test_a_packed_tar_holds_what_the_plain_one_does(end: str, tmp_path: Path) -> None:
    plain = tarred(tmp_path / "a.tar", MEMBERS)
    (tmp_path / "packed").mkdir()
    file = repacked(plain, tmp_path / "packed" / f"a{end}", PACKED[end])
    wanted = [(p.key.partition(":")[2], p.captions, p.data()) for p in read_pictures(plain)]
    for source in (file, file.parent):
        opened = open_source(source)
        assert [(p.key.partition(":")[2], p.captions, p.data()) for p in opened] == wanted and len(wanted) == 3
        (part,) = opened.cut([1, 2])
        assert (
            [p.data() for p in pickle.loads(pickle.dumps(part))]
            == [p.data() for p in part]
            == [w[2] for w in wanted[1:]]
        )
    assert [p.text for p in read_prompts(file)] == ["c0", "c1", "c2"]


def test_what_was_unpacked_before_the_damage_is_read(tmp_path: Path) -> None:
    whole = gzip.compress(tarred(tmp_path / "a.tar", MEMBERS).read_bytes(), 0)
    (tmp_path / "cut.tar.gz").write_bytes(whole[: len(whole) // 2])
    found = list(read_pictures(tmp_path / "cut.tar.gz"))
    assert found[0].captions == ("c0",) and found[0].image().size == (40, 40)
    with pytest.raises(Exception, match="the tar file is damaged: Compressed file ended"):
        found[-1].data()


def test_damage_in_the_middle_of_a_bz2_is_said_like_any_other(tmp_path: Path) -> None:
    data = bytearray(bz2.compress(random.Random(0).randbytes(2_000_000)))
    data[1_500_000] ^= 255
    (tmp_path / "a.tar.bz2").write_bytes(data)
    whole = packed.TarBytes(tmp_path / "a.tar.bz2")
    with whole.opened() as file:
        assert len(file.read()) > 0 and whole.problem == "Invalid data stream"


@pytest.mark.parametrize("data", [b"", b"no tar", random.Random(0).randbytes(99)], ids=["empty", "text", "random"])
def test_what_is_no_packed_tar_says_so(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.tar.gz").write_bytes(data)
    (picture,) = read_pictures(tmp_path / "a.tar.gz")
    with pytest.raises(Exception, match="the tar file is damaged"):
        picture.data()


def test_a_bomb_is_not_unpacked_to_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packed, "MOST", 2**22)
    (tmp_path / "a.tar.gz").write_bytes(gzip.compress(bytes(2**25)))
    (picture,) = read_pictures(tmp_path / "a.tar.gz")
    with pytest.raises(Exception, match="it unpacks to more than 4 MiB"):
        picture.data()


def test_nothing_is_left_in_the_temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "t"))
    (tmp_path / "t").mkdir()
    file = repacked(tarred(tmp_path / "a.tar", MEMBERS), tmp_path / "a.tgz", "w:gz")
    pictures = list(read_pictures(file))
    assert pictures[0].image() and not list((tmp_path / "t").iterdir())


def test_the_command_line_reads_one(tmp_path: Path, mnemoscope: Callable[..., tuple]) -> None:
    file = repacked(tarred(tmp_path / "a.tar", MEMBERS), tmp_path / "a.tgz", "w:gz")
    code, out, said = mnemoscope("index", "build", file, "--features", "pixels", "--out", tmp_path / "i")
    assert code == 0 and "3 of 3 pictures have a caption" in out + said
