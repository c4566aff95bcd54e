"""Pictures: every layout gives the same pictures and captions, and whatever a file holds is a picture or a reason."""

import json
import zipfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

import mnemoscope as mn
from mnemoscope.errors import UsageError
from mnemoscope.pictures import Missing, Picture, Unreadable, decoded, open_source, read_pictures
from picture_files import (
    CAPTIONS,
    DATA,
    HOSTILE,
    LAYOUTS,
    NAMES,
    encoded,
    image,
    lines,
    reasons,
    tarred,
    written,
    zipped,
)

# Layouts


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("is_zip", [False, True])
def test_layouts_of_files(layout: str, is_zip: bool, tmp_path: Path) -> None:
    files = {**DATA, **LAYOUTS[layout]()}
    source = zipped(tmp_path / "set.zip", files) if is_zip else written(tmp_path / "set", files)
    found = list(read_pictures(source))
    prefix = "set.zip:" if is_zip else ""
    assert [p.key for p in found] == [prefix + name for name in NAMES]  # 2 before 10
    assert [p.caption for p in found] == list(CAPTIONS.values())
    assert [p.data() for p in found] == list(DATA.values())
    assert found[0].captions == (("one fox", "another") if layout == "captions.json" else ("one fox",))


def test_captions_of_dcr_are_found_by_the_paths_of_another_machine(tmp_path: Path) -> None:
    folder = written(tmp_path / "train", DATA)
    said = {f"/data/imagenette/train/{name}": [text, "more"] for name, text in CAPTIONS.items()}
    file = written(tmp_path, {"blip.json": json.dumps(said)}) / "blip.json"
    found = list(read_pictures(folder, captions=file))
    assert [p.captions for p in found] == [(text, "more") for text in CAPTIONS.values()]
    with pytest.raises(UsageError, match="names no picture"):
        open_source(folder, captions=written(tmp_path, {"x.json": '{"other.png": ["x"]}'}) / "x.json")


def test_only_the_suffix_is_swapped_for_the_text(tmp_path: Path) -> None:
    """A folder whose name is a suffix, and a name that holds one, do not lose their captions."""
    names = ["jpg/my.jpg.jpg", "jpg/x.JPEG", "jpg/y.webp"]
    files = {name: encoded(image(0), "WEBP" if name.endswith("webp") else "JPEG") for name in names}
    texts = {name.rpartition(".")[0] + ".txt": f"text of {name}" for name in names}
    found = list(read_pictures(written(tmp_path / "jpg", files | texts)))
    assert [(p.key, p.caption) for p in found] == [(name, f"text of {name}") for name in names]


def test_a_run_of_generate_has_prompts_and_seeds(tmp_path: Path) -> None:
    rows = [
        {
            "id": "p-0",
            "prompt_id": "p",
            "prompt": "a fox",
            "seed": 7,
            "file": "images/p-0.png",
            "mitigation": [],
            "label": True,
            "kind": "tail",
            "status": "ok",
        },
        {"id": "p-1", "prompt": "a fox", "seed": 8, "status": "failed", "error": "out of memory"},
    ]
    run = written(tmp_path / "run", {"images/p-0.png": DATA["b.png"], "report.html": "", "rows.jsonl": lines(*rows)})
    written(run, {"run.json": '{"command": "generate"}', "references/0.png": DATA["b.png"]})
    first, second = read_pictures(run)
    assert (first.key, first.caption, first.seed, first.label, first.kind) == (
        "images/p-0.png",
        "a fox",
        7,
        True,
        "tail",
    )
    assert first.data() == DATA["b.png"]
    with pytest.raises(Missing, match="not drawn: out of memory"):
        second.image()
    audit = written(tmp_path / "audit", {"run.json": '{"command": "audit"}', "generate/run.json": "{}"})
    with pytest.raises(UsageError, match=r"give .*audit/generate\."):
        open_source(audit)


def test_webdataset_tars_and_patterns(tmp_path: Path) -> None:
    for shard in range(3):
        members: list[tuple[str, bytes | str]] = []
        for k in range(2):
            key = f"{shard:05d}{k:04d}"
            members += [(f"{key}.jpg", encoded(image(k), "JPEG")), (f"{key}.txt", f"text {key}")]
            members += [
                (f"{key}.json", json.dumps({"url": f"http://a/{key}", "caption": f"text {key}", "status": None}))
            ]
        tarred(tmp_path / f"{shard:05d}.tar", [*members, ("./extra/lonely.txt", "no image")])
    found = list(read_pictures(f"{tmp_path}/{{00000..00001}}.tar"))
    assert [p.key for p in found] == [
        f"0000{s}.tar:{k}" for s in (0, 1) for k in (f"0000{s}0000", f"0000{s}0001", "./extra/lonely")
    ]
    assert (found[3].caption, found[3].url) == ("text 000010000", "http://a/000010000")
    assert found[3].image().size == (12, 8)
    with pytest.raises(Missing, match="no image in the sample"):
        found[2].image()
    assert [p.key for p in read_pictures(tmp_path)] == [p.key for p in read_pictures(f"{tmp_path}/*.tar")]
    assert reasons(f"{tmp_path}/{{00002,00009}}.tar")["00009.tar"] == "unreadable: the file is not there"


LINKS = [
    {"key": "000000000", "url": "http://a/0", "caption": "zero", "status": "success", "error_message": None},
    {"key": "000000001", "url": "http://a/1", "caption": "one", "status": "failed_to_download", "error_message": "404"},
    {"key": "000000002", "url": "http://a/2", "caption": "two", "status": "success", "error_message": None},
]


@pytest.mark.parametrize("layout", ["tar", "files", "parquet"])
def test_img2dataset_counts_dead_links(layout: str, tmp_path: Path) -> None:
    kept = {r["key"]: encoded(image(k), "JPEG") for k, r in enumerate(LINKS) if r["status"] == "success"}
    rows = [{**r, "jpg": kept.get(r["key"])} for r in LINKS] if layout == "parquet" else LINKS
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "00000.parquet")
    members = [(f"{key}.jpg", data) for key, data in kept.items()]
    if layout == "tar":
        tarred(tmp_path / "00000.tar", members)
    elif layout == "files":
        written(tmp_path / "00000", dict(members))
    source = open_source(tmp_path)
    found = list(source)
    assert len(source) == 3
    assert [(p.caption, p.url) for p in found] == [(r["caption"], r["url"]) for r in LINKS]
    assert [p.data() for p in (found[0], found[2])] == list(kept.values())
    with pytest.raises(Missing, match="^not downloaded: 404$"):
        found[1].image()


@pytest.mark.parametrize("column", ["image", "jpg", "anything"])
@pytest.mark.parametrize("is_struct", [False, True])
def test_parquet_with_bytes(column: str, is_struct: bool, tmp_path: Path) -> None:
    rows = [
        {column: {"bytes": data, "path": "/etc/passwd"} if is_struct else data, "Text": CAPTIONS[name]}
        for name, data in DATA.items()
    ]
    rows.append({column: {"bytes": None, "path": str(tmp_path / "0.parquet")} if is_struct else None, "Text": "x"})
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "0.parquet", row_group_size=2)
    source = open_source(tmp_path / "0.parquet")
    found = list(source)
    assert [p.key for p in found] == [f"0.parquet:{k}" for k in range(5)]
    assert [p.caption for p in found] == [*CAPTIONS.values(), "x"]
    assert [p.data() for p in found[:4]] == list(DATA.values())
    with pytest.raises(Missing, match="no image in its row"):  # a path in the data is never opened
        found[4].image()
    assert [p.key for part in source.cut([1, 3]) for p in part] == ["0.parquet:1", "0.parquet:3"]


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")  # of datasets and what it loads
def test_datasets_by_name_and_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets")
    rows = {"image": [{"bytes": d, "path": None} for d in DATA.values()], "caption": list(CAPTIONS.values())}
    features = datasets.Features({"image": datasets.Image(), "caption": datasets.Value("string")})
    made = datasets.Dataset.from_dict(rows, features=features)
    made.save_to_disk(str(tmp_path / "saved"))
    asked = []
    monkeypatch.setattr(datasets, "load_dataset", lambda *a, **k: asked.append((a, k)) or made)
    for name, prefix in (("hub:owner/name:train", "owner/name:"), (str(tmp_path / "saved"), "saved:")):
        source = open_source(name)
        assert [(p.key, p.caption) for p in source] == [
            (f"{prefix}{k}", caption) for k, caption in enumerate(CAPTIONS.values())
        ]
        (cut,) = source.cut(range(2, 4))
        assert [p.data() for p in cut] == list(DATA.values())[2:]
    assert asked == [(("owner/name",), {"split": "train"})]


def test_links_to_folders_are_followed_once(tmp_path: Path) -> None:
    source = written(tmp_path / "set", DATA)
    (source / "linked").symlink_to(written(tmp_path / "other", {"c.png": DATA["b.png"]}))
    (source / "linked" / "back").symlink_to(source)
    (source / "gone.png").symlink_to(tmp_path / "nowhere")
    written(source, {".hidden/x.png": DATA["b.png"], "._b.png": "x"})
    assert reasons(source) == {name: "ok" for name in [*NAMES, "linked/c.png"]} | {
        "gone.png": "missing: the file is gone"
    }


# Stretches of sources


def test_stretches_of_a_source_are_its_pictures(tmp_path: Path) -> None:
    folder = written(tmp_path / "f", DATA)
    for shard in range(3):
        tarred(tmp_path / f"{shard}.tar", [(f"{k}.png", data) for k, data in enumerate(DATA.values())])
    for name in (str(folder), f"{tmp_path}/*.tar"):
        source = open_source(name)
        keys = [p.key for p in source]
        for start in range(len(source)):
            for stop in range(start, len(source) + 1):
                assert [p.key for part in source.cut(range(start, stop)) for p in part] == keys[start:stop]
        assert [p.key for part in source.cut([0, 3]) for p in part] == [keys[0], keys[3]]
        few = open_source(name, limit=3)
        assert [p.key for p in few] == keys[:3] and len(few) == 3 and sum(few.counts) == 4  # no further tar is counted


def test_a_changed_source_is_another_content(tmp_path: Path) -> None:
    folder = written(tmp_path, {**DATA, "b.txt": "a bee"})
    seen = [open_source(folder).content, open_source(folder).content]
    for change in (
        {"b.txt": "two bees"},
        {"b.png": encoded(image(9, 30))},
        {"captions.jsonl": lines({"file": "a/1.png", "caption": "x"})},
    ):
        seen.append(open_source(written(folder, change)).content)
    assert seen[0] == seen[1] and len(set(seen)) == 4


def test_public_name() -> None:
    assert mn.read_pictures is read_pictures


# What cannot be read


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_images_have_a_plain_reason(name: str) -> None:
    data, reason = HOSTILE[name]
    with pytest.raises(Unreadable) as caught:
        decoded(data)
    assert caught.value.reason == reason and caught.value.status == "unreadable"


def test_text_chunks_do_not_fill_the_memory() -> None:
    from PIL import PngImagePlugin

    info = PngImagePlugin.PngInfo()
    info.add_text("x", "a" * 10_000_000, zip=True)
    with pytest.raises(Unreadable, match="damaged"):
        decoded(encoded(image(0), pnginfo=info))


def test_fifty_megapixels_are_decoded() -> None:
    assert decoded(encoded(Image.new("L", (10_000, 5_000)), compress_level=1)).size == (10_000, 5_000)


def test_modes_become_rgb() -> None:
    ramp = Image.fromarray((np.arange(96).reshape(8, 12) * 257).astype(np.uint16))
    assert np.array_equal(np.asarray(decoded(encoded(ramp)))[..., 0], np.arange(96).reshape(8, 12))
    half = image(1).convert("L")
    half.putalpha(Image.new("L", half.size, 0))
    assert set(np.unique(np.asarray(decoded(encoded(half))))) == {255}  # LA: transparent lies on white
    palette = image(2).quantize(4)
    clear = np.asarray(decoded(encoded(palette, transparency=0)))
    assert (clear[np.asarray(palette) == 0] == 255).all()
    assert np.array_equal(clear[np.asarray(palette) > 0], np.asarray(palette.convert("RGB"))[np.asarray(palette) > 0])
    for mode, kind in (("CMYK", "JPEG"), ("YCbCr", "JPEG"), ("1", "PNG"), ("RGBA", "WEBP"), ("L", "JPEG")):
        flat = decoded(encoded(Image.new("RGB", (9, 9), (200, 200, 200)).convert(mode), kind))
        assert flat.mode == "RGB" and flat.size == (9, 9)
        assert abs(int(np.asarray(flat).mean()) - (255 if mode == "1" else 200)) < 70
    frames = [image(k) for k in range(3)]
    moving = encoded(frames[0], "PNG", save_all=True, append_images=frames[1:])
    assert np.array_equal(np.asarray(decoded(moving)), np.asarray(frames[0]))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_turns_the_picture(orientation: int) -> None:
    """Undone by the inverse of each turn, written here by hand."""
    upright = np.asarray(image(3))
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: np.rot90(upright, 1),
        7: np.rot90(upright, 2).transpose(1, 0, 2),
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    turned = decoded(encoded(Image.fromarray(np.ascontiguousarray(stored)), exif=exif))
    assert np.array_equal(np.asarray(turned), upright)


def test_damaged_archives_are_counted(tmp_path: Path) -> None:
    whole = tarred(tmp_path / "0.tar", [(f"{k}.png", encoded(image(k, 40, 40))) for k in range(3)])
    (tmp_path / "1.tar").write_bytes(whole.read_bytes()[:9000])
    (tmp_path / "2.tar").write_bytes(b"no tar at all")
    found = reasons(tmp_path)
    assert [found[f"0.tar:{k}"] for k in range(3)] == ["ok"] * 3
    assert found["1.tar:0"] == "ok" and found["1.tar:1"].startswith("unreadable: cut off")
    assert found["1.tar"].startswith("unreadable: the tar file is damaged")
    assert found["2.tar"].startswith("unreadable: the tar file is damaged")
    folder = written(
        tmp_path / "z", {"bad.zip": b"PK\3\4 no", "good.zip": zipped(tmp_path / "g.zip", DATA).read_bytes()}
    )
    found = reasons(folder)
    assert found["bad.zip"].startswith("unreadable: the zip file cannot be read") and len(found) == 5
    folder = written(tmp_path / "p", {"bad.parquet": b"PAR1 no"})
    assert reasons(folder)["bad.parquet"].startswith("unreadable: the parquet file cannot be read")


def test_a_damaged_member_and_a_damaged_row_group_leave_the_others(tmp_path: Path) -> None:
    archive = zipped(tmp_path / "a.zip", DATA)
    raw = bytearray(archive.read_bytes())
    raw[raw.index(DATA["b.png"]) + 30] ^= 255
    archive.write_bytes(raw)
    assert list(reasons(archive).values()) == ["ok"] * 3 + ["unreadable: damaged in its zip file (BadZipFile)"]
    with zipfile.ZipFile(tmp_path / "c.zip", "w") as file:
        file.writestr("b.png", DATA["b.png"])
        file.writestr("captions.json", '{"b.png": "a caption of its own"}')
    raw = bytearray((tmp_path / "c.zip").read_bytes())
    raw[raw.index(b"a caption")] ^= 255
    (tmp_path / "c.zip").write_bytes(raw)
    with pytest.raises(UsageError, match="captions.json cannot be read: damaged"):
        reasons(tmp_path / "c.zip")
    table = tmp_path / "t.parquet"
    pq.write_table(
        pa.table({"image": list(DATA.values())}), table, row_group_size=2, compression="none", use_dictionary=False
    )
    group = pq.read_metadata(table).row_group(1).column(0)
    raw = bytearray(table.read_bytes())
    raw[group.data_page_offset : group.data_page_offset + 12] = b"\xff" * 12
    table.write_bytes(raw)
    assert (
        list(reasons(table).values())
        == ["ok"] * 2 + ["unreadable: its part of the parquet file is damaged, or far larger than the file"] * 2
    )


def test_names_are_never_places(tmp_path: Path) -> None:
    """Members that climb out of their archive are read as names; nothing is written anywhere."""
    inside = tmp_path / "in"
    inside.mkdir()
    evil = ["../../evil.png", "/absolute.png", "C:\\x.png"]
    zipped(inside / "a.zip", dict.fromkeys(evil, DATA["b.png"]))
    before = sorted(tmp_path.rglob("*"))
    assert {p.key for p in read_pictures(inside)} == {f"a.zip:{name}" for name in evil}
    assert set(reasons(inside).values()) == {"ok"} and sorted(tmp_path.rglob("*")) == before


def test_two_images_of_one_sample_are_two_pictures(tmp_path: Path) -> None:
    tarred(tmp_path / "t.tar", [("1.png", DATA["b.png"]), ("1.jpg", encoded(image(4), "JPEG")), ("1.txt", "text")])
    found = list(read_pictures(tmp_path / "t.tar"))
    assert len({p.key for p in found}) == len(found) == 2


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"a.txt": "x"}, "holds no image"),
        ({"a.png": DATA["b.png"], "b.tar": ""}, "holds images and .tar files; name one kind"),
        ({"a.parquet": "table"}, "none of its columns can be the images|holds no image"),
        ({"a.png": DATA["b.png"], "captions.jsonl": "{"}, r"captions.jsonl is no file of captions"),
    ],
)
def test_sources_that_are_none(files: dict[str, bytes | str], said: str, tmp_path: Path) -> None:
    written(tmp_path, files)
    if "a.parquet" in files:
        pq.write_table(pa.table({"text": ["x"]}), tmp_path / "a.parquet")
    with pytest.raises(UsageError, match=said):
        open_source(tmp_path)


def test_long_numbers_and_broken_texts_are_names_and_texts(tmp_path: Path) -> None:
    names = ["9" * 6000 + ".png", "10.png", "9.png", "010.png"]
    archive = zipped(tmp_path / "a.zip", dict.fromkeys(names, DATA["b.png"]))
    assert [p.key[6:16] for p in read_pictures(archive)] == ["9.png", "010.png", "10.png", "9999999999"]
    members = [("1.png", DATA["b.png"]), ("1.json", b"[" * 100_000), ("1.txt", b"caf\xe9")]
    (found,) = read_pictures(tarred(tmp_path / "t.tar", members))
    assert found.caption is None and found.image().size == (12, 8)


def test_other_mistakes(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="There is nothing at"):
        open_source(tmp_path / "none")
    with pytest.raises(UsageError, match="limit is 0"):
        open_source(tmp_path, limit=0)
    with pytest.raises(UsageError, match="is no image and no .zip"):
        open_source(written(tmp_path, {"a.txt": "x"}) / "a.txt")
    two = pa.table({"x": [DATA["b.png"]], "y": [DATA["b.png"]]})
    pq.write_table(two, tmp_path / "two.parquet")
    with pytest.raises(UsageError, match="x, y could be the images"):
        open_source(tmp_path / "two.parquet")
    (only,) = read_pictures(written(tmp_path, DATA) / "b.png")
    assert only.key == "b.png" and only.sha256() and isinstance(only, Picture)
