"""A cached file is judged by its own format and by its blob's name, without reading more than that takes."""

from __future__ import annotations

import hashlib
import io
import json
import os
import stat
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from pickle import UnpicklingError

import gguf
import pytest
import torch
from hub_caches import PORTAL, blob_name, gguf_file, hdf5, safetensors
from safetensors import SafetensorError
from safetensors.torch import load, save

from safetransformers.hub import formats, integrity
from safetransformers.hub.integrity import Damage, check_content, check_structure


def judge(path: Path, content: bytes, name: str | None = None) -> Damage | None:
    path.write_bytes(content)
    return check_structure(path, name or path.name)


def problem(path: Path, content: bytes, name: str | None = None) -> str | None:
    damage = judge(path, content, name)
    return damage.problem if damage else None


def pickled(**kwargs: bool) -> bytes:
    file = io.BytesIO()
    torch.save({"weight": torch.randn(8, 8), "bias": torch.randn(3)}, file, **kwargs)
    return file.getvalue()


def loads(reader: Callable[[bytes], object], content: bytes) -> bool:
    try:
        reader(content)
    except (OSError, RuntimeError, ValueError, EOFError, UnpicklingError, SafetensorError):
        return False
    return True


def safetensors_of(header: bytes, tensors: bytes) -> bytes:
    return len(header).to_bytes(8, "little") + header + tensors


def test_a_safetensors_file_cut_anywhere_is_told_as_the_library_tells_it(tmp_path: Path) -> None:
    whole = safetensors()
    assert judge(tmp_path / "model.safetensors", whole) is None
    for size in range(len(whole)):
        with pytest.raises(SafetensorError):
            load(whole[:size])
        assert problem(tmp_path / "model.safetensors", whole[:size]) == ("truncated" if size else "empty"), size


def test_a_cut_safetensors_file_is_told_with_the_size_it_should_have(tmp_path: Path) -> None:
    whole = safetensors()
    damage = judge(tmp_path / "model.safetensors", whole[:-7])
    assert damage == Damage("model.safetensors", "truncated", f"{len(whole)} bytes", f"{len(whole) - 7} bytes")
    assert str(damage) == f"model.safetensors: truncated (expected {len(whole)} bytes, found {len(whole) - 7} bytes)"


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (safetensors() + b"\0", "longer than its header says"),
        (safetensors_of(b'{"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}}', b"ab"), None),
        (safetensors_of(b"{}", b""), None),
        (safetensors_of(b'{"a":{"dtype":"U8","shape":[2],"data_offsets":[1,3]}}', b"abc"), "not its format"),
        (safetensors_of(b'{"a":{"dtype":"U8","shape":[2],"data_offsets":[0,true]}}', b"a"), "not its format"),
        (safetensors_of(b'{"a":[]}', b""), "not its format"),
        (safetensors_of(b"[1]", b""), "not its format"),
        (safetensors_of(b"{nonsense}", b""), "not its format"),
        ((1 << 63).to_bytes(8, "little") + b"{}", "not its format"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n", "not its format"),
        (PORTAL, "an HTML page"),
    ],
)
def test_a_safetensors_file_is_sound_exactly_where_the_library_reads_it(
    tmp_path: Path, content: bytes, told: str | None
) -> None:
    assert problem(tmp_path / "model.safetensors", content) == told
    assert loads(load, content) == (told is None)


def test_a_file_of_many_gigabytes_is_judged_by_its_header(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    size = 40 * 2**30
    header = json.dumps({"a": {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}}).encode()
    path = tmp_path / "model.safetensors"
    path.write_bytes(safetensors_of(header, b""))
    os.truncate(path, 8 + len(header) + size)  # a sparse file: a whole read would take a minute
    assert check_structure(path, path.name) is None
    os.truncate(path, 8 + len(header) + size - 1)
    assert check_structure(path, path.name) == Damage(
        path.name, "truncated", f"{8 + len(header) + size} bytes", f"{8 + len(header) + size - 1} bytes"
    )


def test_a_gguf_cut_anywhere_is_told_with_the_end_that_the_gguf_package_sees(tmp_path: Path) -> None:
    end = gguf_file(tmp_path / "model.gguf")
    whole = (tmp_path / "model.gguf").read_bytes()
    assert check_structure(tmp_path / "model.gguf", "model.gguf") is None
    for size in range(1, end, 5):
        assert problem(tmp_path / "cut.gguf", whole[:size]) in ("truncated", "not its format"), size
    assert judge(tmp_path / "cut.gguf", whole[: end - 1]) == Damage(
        "cut.gguf", "truncated", f"at least {end} bytes", f"{end - 1} bytes"
    )
    assert judge(tmp_path / "cut.gguf", whole[:end]) is None


def test_every_tensor_type_of_the_gguf_package_has_its_size() -> None:
    for kind, (values, block_bytes) in gguf.GGML_QUANT_SIZES.items():
        assert formats._GGML_BLOCKS[int(kind)] == (values, block_bytes), kind


@pytest.mark.parametrize("at", range(8, 80, 3))
def test_a_gguf_with_wild_lengths_is_refused_without_believing_them(tmp_path: Path, at: int) -> None:
    gguf_file(tmp_path / "model.gguf")
    wild = bytearray((tmp_path / "model.gguf").read_bytes())
    wild[at : at + 8] = b"\xff" * 8
    assert problem(tmp_path / "wild.gguf", bytes(wild)) in ("truncated", "not its format", None)
    assert problem(tmp_path / "wild.gguf", b"GGML" + bytes(wild[4:])) == "not its format"


def test_pickle_weights_cut_anywhere_are_told_as_torch_tells_it(tmp_path: Path) -> None:
    whole = pickled()
    assert judge(tmp_path / "pytorch_model.bin", whole) is None
    for size in range(0, len(whole), 37):
        assert not loads(lambda data: torch.load(io.BytesIO(data)), whole[:size])
        told = problem(tmp_path / "pytorch_model.bin", whole[:size])
        assert told == ("truncated" if size else "empty") or size < 4, size


def test_pickle_weights_that_lost_their_middle_are_told(tmp_path: Path) -> None:
    whole = pickled()
    lost = whole[:64] + whole[400:]
    assert not loads(lambda data: torch.load(io.BytesIO(data)), lost)
    assert problem(tmp_path / "pytorch_model.bin", lost) == "truncated"


def test_pickle_weights_of_old_torch_are_left_alone(tmp_path: Path) -> None:
    assert judge(tmp_path / "pytorch_model.bin", pickled(_use_new_zipfile_serialization=False)) is None
    assert problem(tmp_path / "pytorch_model.bin", b"") == "empty"
    assert problem(tmp_path / "pytorch_model.bin", PORTAL) == "an HTML page"


def test_pickle_weights_are_never_executed(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return Path.touch, (tmp_path / "executed",)  # type: ignore[return-value]

    torch.save(Evil(), tmp_path / "pytorch_model.bin")
    assert check_structure(tmp_path / "pytorch_model.bin", "pytorch_model.bin") is None
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("version", [0, 1, 2, 3])
def test_tensorflow_weights_that_are_cut_are_told(tmp_path: Path, version: int) -> None:
    whole = hdf5(version, 500)
    assert judge(tmp_path / "tf_model.h5", whole) is None
    assert judge(tmp_path / "tf_model.h5", whole[:300]) == Damage("tf_model.h5", "truncated", "500 bytes", "300 bytes")
    assert problem(tmp_path / "tf_model.h5", whole[:20]) == "truncated"
    assert problem(tmp_path / "tf_model.h5", b"\0" + whole) == "not its format"


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b'{"model_type": "bert"}', None),
        (b'  {"a": NaN}\n', None),
        ('{"a": "é"}'.encode(), None),
        ('{"a": "é"}'.encode("latin-1"), "not JSON"),
        (b'\xef\xbb\xbf{"a": 1}', "not JSON"),
        (b'{"model_type": "be', "truncated"),
        (b'{"a": {"b": 1}, ', "truncated"),
        (b'{"a": 1,}', "not JSON"),
        (b'{"a": 1}}', "not JSON"),
        (b"[" * 200_000 + b"]" * 200_000, "not JSON"),
        (b"", "empty"),
        (PORTAL, "an HTML page"),
        (b"\n\n <HTML lang='en'>", "an HTML page"),
        (b"Bad Gateway", "not JSON"),
    ],
)
def test_a_json_file_is_sound_exactly_where_transformers_can_parse_it(
    tmp_path: Path, content: bytes, told: str | None
) -> None:
    assert problem(tmp_path / "config.json", content) == told

    def parse(_: bytes) -> object:
        return json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))

    assert loads(parse, content) == (told is None)


def test_a_very_long_json_file_is_judged_by_its_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(formats, "SMALL_BYTES", 10_000)
    whole = json.dumps({"vocab": {f"token{n}": n for n in range(2000)}}).encode()
    assert len(whole) > 10_000
    assert judge(tmp_path / "tokenizer.json", whole + b"\n") is None
    assert problem(tmp_path / "tokenizer.json", whole[:-1000]) == "truncated"
    assert problem(tmp_path / "tokenizer.json", b"x" + whole) == "not JSON"


def test_a_sign_in_page_in_place_of_a_file_is_told_with_its_title(tmp_path: Path) -> None:
    for name in ("config.json", "vocab.txt", "model.safetensors", "merges.txt", "modeling_x.py", "spiece.model"):
        damage = judge(tmp_path / "file", PORTAL, name)
        assert damage == Damage(name, "an HTML page", found='a page titled "Sign in to Airport Wi-Fi"')
    for name in ("README.md", "demo.html", "chat_template.jinja"):
        assert judge(tmp_path / "file", PORTAL, name) is None


def test_an_empty_file_is_told_where_something_must_be(tmp_path: Path) -> None:
    for name in ("vocab.txt", "merges.txt", "tokenizer.json", "spiece.model", "tf_model.h5", "x/model.gguf"):
        assert problem(tmp_path / "file", b"", name) == "empty", name
    for name in ("__init__.py", "README.md", ".gitattributes", "notes.txt"):
        assert problem(tmp_path / "file", b"", name) is None, name


def test_a_file_of_another_size_than_the_hub_lists_is_told(tmp_path: Path) -> None:
    path = tmp_path / "vocab.txt"
    path.write_bytes(b"one\ntwo\n")
    assert check_structure(path, "vocab.txt", size=8) is None
    assert check_structure(path, "vocab.txt", size=12) == Damage("vocab.txt", "truncated", "12 bytes", "8 bytes")
    assert check_structure(path, "vocab.txt", size=4) == Damage("vocab.txt", "other bytes", "4 bytes", "8 bytes")


def test_what_is_no_file_is_told_and_never_waited_for(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "dangling").symlink_to("../../blobs/" + "ab" * 20)
    for check in (check_structure, lambda path, name: check_content(path, name, "0" * 40)):
        assert check(tmp_path / "folder", "config.json") == Damage("config.json", "unreadable", "a file", "a folder")
        assert check(tmp_path / "pipe", "config.json").problem == "unreadable"
        assert check(tmp_path / "loop", "config.json").problem == "unreadable"
        assert check(tmp_path / "gone", "config.json") == Damage("config.json", "missing")
        assert check(tmp_path / "nul\0", "config.json").problem == "unreadable"
        assert check(tmp_path / "dangling", "config.json") == Damage(
            "config.json", "dangling link", "blob abababababab…"
        )


@pytest.mark.skipif(not hasattr(os, "seteuid") or os.geteuid() != 0, reason="another user can be played by root only")
def test_a_file_of_another_user_is_told_and_tried_again_later() -> None:
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        path = Path(folder, "config.json")
        path.write_bytes(b"{}")
        path.chmod(0o600)
        os.seteuid(65534)
        try:
            assert check_structure(path, "config.json") == Damage(
                "config.json", "unreadable", found="Permission denied"
            )
            assert check_content(path, "config.json", "0" * 40) == Damage(
                "config.json", "unreadable", found="Permission denied"
            )
        finally:
            os.seteuid(0)
        assert check_structure(path, "config.json") is None


def test_git_and_the_hub_name_the_same_bytes_alike(tmp_path: Path) -> None:
    content = b"[PAD]\r\n[UNK]\xff\n" * 1000
    path = tmp_path / "vocab.txt"
    path.write_bytes(content)
    git = subprocess.run(["git", "hash-object", "--no-filters", path], capture_output=True, text=True, check=True)
    for name in (git.stdout.strip(), hashlib.sha256(content).hexdigest(), hashlib.sha1(content).hexdigest()):
        assert check_content(path, "vocab.txt", name) is None
    for etag in (None, "", "d41d8cd98f00b204e9800998ecf8427e", "0" * 40 + "-2", "A" * 40, git.stdout.strip().upper()):
        assert check_content(path, "vocab.txt", etag) is None  # tells nothing


def test_one_flipped_bit_is_told_by_the_hash_and_by_nothing_else(tmp_path: Path) -> None:
    whole = bytearray(save({"weight": torch.zeros(3_000_000)}))  # several blocks
    path, blob = tmp_path / "model.safetensors", blob_name("model.safetensors", bytes(whole))
    path.write_bytes(whole)
    assert check_content(path, path.name, blob) is None
    whole[6_000_000] ^= 4
    path.write_bytes(whole)
    assert check_structure(path, path.name) is None
    found = hashlib.sha256(whole).hexdigest()
    assert check_content(path, path.name, blob) == Damage(
        "model.safetensors", "other bytes", f"sha256 {blob[:12]}…", f"sha256 {found[:12]}…"
    )


def test_a_file_is_read_once_in_a_process_until_it_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    integrity.forget()
    opened: list[str] = []

    def counted(path: Path, *args: object, **kwargs: object) -> object:
        opened.append(Path(path).name)
        return open(path, *args, **kwargs)  # type: ignore[call-overload]

    monkeypatch.setattr(integrity, "open", counted, raising=False)
    blob, link, second = tmp_path / "blob", tmp_path / "link", tmp_path / "second"
    blob.write_bytes(b'{"a": 1}')
    name = blob_name("config.json", b'{"a": 1}')
    link.symlink_to(blob)
    second.symlink_to(blob)
    for path in (link, second, link):
        assert check_structure(path, "config.json") is None
        assert check_content(path, "config.json", name) is None
    assert opened == ["link", "link"]
    before = blob.stat()
    blob.write_bytes(b'{"a": 1,')
    os.utime(blob, ns=(before.st_atime_ns, before.st_mtime_ns))  # as a tool that keeps times does
    assert stat.S_ISREG(blob.stat().st_mode) and blob.stat().st_size == before.st_size
    assert check_structure(link, "config.json") == Damage(
        "config.json", "truncated", "JSON", "8 bytes, the end is missing"
    )
    assert check_content(link, "config.json", name).problem == "other bytes"
    assert len(opened) > 2


def test_names_that_lead_out_of_the_repository_are_known() -> None:
    for name in ("../x", "a/../../x", "/etc/passwd", "C:/x", "C:x", "a\\..\\x", "a//b", "", ".", "a/", "nul\0"):
        assert not integrity.inside(name), name
    for name in ("model.safetensors", "onnx/model.onnx", "a..b/c", "...", "émile/ñ.json", "-00001-of-00002"):
        assert integrity.inside(name), name
