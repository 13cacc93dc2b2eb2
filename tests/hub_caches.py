"""Hub caches as users have them, whole and broken, laid out by hand as huggingface_hub lays them out."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Mapping
from pathlib import Path

import gguf
import numpy as np
import torch
from gguf import GGUFReader, GGUFWriter
from safetensors.torch import save

from safetransformers.hub.snapshots import Choice, Need, choose

MODEL = Need(config=True, weights=True, generation=True)
TOKENIZER = Need(tokenizer=True)
BOTH = Need(config=True, weights=True, tokenizer=True)
CONFIG = {"config.json": b'{"model_type": "bert"}'}
PORTAL = b"<!DOCTYPE html>\n<html><head><title>Sign in to Airport Wi-Fi</title></head><body>Welcome</body></html>"
LARGE = (".safetensors", ".bin", ".gguf", ".h5", ".msgpack", ".model")


def commit_hash(name: str) -> str:
    """40 hex digits that stay the same for a name; a name that is a hash already stays as it is."""
    is_hash = len(name) == 40 and all(digit in "0123456789abcdef" for digit in name)
    return name if is_hash else hashlib.sha1(name.encode()).hexdigest()


def blob_name(name: str, content: bytes) -> str:
    """The etag that the hub gives a file: sha256 of what is in LFS, git's sha1 of the rest."""
    if name.endswith(LARGE):
        return hashlib.sha256(content).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


class Repo:
    """One cached repository, ``<cache>/models--org--name``."""

    def __init__(self, cache: Path, repo_id: str = "org/model", *, links: bool = True) -> None:
        self.cache, self.repo_id, self.links = cache, repo_id, links
        self.folder = cache / ("models--" + repo_id.replace("/", "--"))
        (self.folder / "snapshots").mkdir(parents=True, exist_ok=True)

    def commit(
        self,
        name: str,
        files: Mapping[str, bytes | None],
        *,
        ref: str | None = None,
        absent: tuple[str, ...] = (),
        listed: Mapping[str, bytes] | None = None,
        age_s: float = 0.0,
    ) -> str:
        """Adds a commit and gives its hash.

        Args:
            name: any name; the hash is made of it.
            files: name -> content; ``None`` makes a link whose blob is gone.
            ref: the branch or tag that shall name it.
            absent: files that the hub has said the commit has not.
            listed: the whole commit as the hub lists it (huggingface_hub 2 keeps that).
            age_s: how long ago it was downloaded, in seconds.
        """
        commit = commit_hash(name)
        snapshot = self.folder / "snapshots" / commit
        snapshot.mkdir(exist_ok=True)
        for file, content in files.items():
            self._add(snapshot / file, content)
        for file in absent:
            marker = self.folder / ".no_exist" / commit / file
            marker.parent.mkdir(parents=True, exist_ok=True)
            marker.touch()
        if listed is not None:
            self.write_tree(commit, listed)
        if ref is not None:
            self.write_ref(ref, commit)
        self.age(commit, age_s)
        return commit

    def write_ref(self, ref: str, text: str) -> None:
        path = self.folder / "refs" / ref
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def write_tree(self, commit: str, files: Mapping[str, bytes]) -> None:
        entries = {}
        for name, content in files.items():
            entry: dict[str, int | str] = {"size": len(content), "blob_id": blob_name(name, content)}
            if name.endswith(LARGE):  # git has a pointer in its place
                pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:%s\nsize %d\n"
                content_hash = blob_name(name, content)
                entry["blob_id"] = blob_name("pointer.txt", pointer % (content_hash.encode(), len(content)))
                entry |= {"lfs_sha256": content_hash, "lfs_size": len(content)}
            entries[name] = entry
        (self.folder / "trees").mkdir(exist_ok=True)
        tree = {"format_version": 1, "files": entries}
        (self.folder / "trees" / f"{commit}.json").write_text(json.dumps(tree))

    def age(self, commit: str, age_s: float) -> None:
        """As if every entry of the commit had been made so long ago."""
        snapshot = self.folder / "snapshots" / commit
        when = time.time() - age_s
        for path in [*snapshot.rglob("*"), snapshot]:
            os.utime(path, (when, when), follow_symlinks=False)

    def path(self, commit: str, file: str) -> Path:
        return self.folder / "snapshots" / commit / file

    def replace(self, commit: str, file: str, content: bytes) -> None:
        """Other bytes under the same blob name, as a disk, a proxy or a killed process leaves them."""
        self.path(commit, file).resolve().write_bytes(content)

    def truncate(self, commit: str, file: str, size: int) -> None:
        os.truncate(self.path(commit, file).resolve(), size)

    def flip(self, commit: str, file: str) -> None:
        """One bit of the last byte: the size stays, the content does not."""
        content = bytearray(self.path(commit, file).read_bytes())
        content[-1] ^= 1
        self.replace(commit, file, bytes(content))

    def _add(self, path: Path, content: bytes | None) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        if not self.links and content is not None:
            path.write_bytes(content)
            return
        name = path.name
        blob = self.folder / "blobs" / (blob_name(name, content) if content is not None else blob_name(name, b"gone"))
        blob.parent.mkdir(exist_ok=True)
        if content is not None:
            blob.write_bytes(content)
        path.symlink_to(os.path.relpath(blob, path.parent))


def safetensors(seed: int = 0) -> bytes:
    """Two tensors of a model."""
    torch.manual_seed(seed)
    return save({"a.weight": torch.randn(4, 3), "b.weight": torch.randn(5)}, metadata={"format": "pt"})


def text_model(seed: int = 0) -> dict[str, bytes]:
    """The files of a small repository that has a model and a tokenizer."""
    return {
        "README.md": b"<html> and markdown may start like this",
        "config.json": json.dumps({"model_type": "bert", "hidden_size": seed}).encode(),
        "model.safetensors": safetensors(seed),
        "tokenizer_config.json": b'{"tokenizer_class": "BertTokenizer"}',
        "tokenizer.json": b'{"version": "1.0", "model": {}}',
        "vocab.txt": b"[PAD]\n[UNK]\nhello\nworld\n",
    }


def sharded(seed: int = 0, count: int = 3) -> dict[str, bytes]:
    """A model in several safetensors files with their index."""
    shards = {f"model-{n:05}-of-{count:05}.safetensors": safetensors(seed + n) for n in range(1, count + 1)}
    weight_map = {f"layer.{n}.weight": shard for n, shard in enumerate(shards)}
    index = json.dumps({"metadata": {"total_size": 1}, "weight_map": weight_map}).encode()
    return {"config.json": b'{"model_type": "bert"}', "model.safetensors.index.json": index, **shards}


def gguf_file(path: Path) -> int:
    """Writes a GGUF and gives the byte where its last tensor ends, as the gguf package reads it."""
    writer = GGUFWriter(path, "llama")
    writer.add_array("tokenizer.ggml.tokens", ["<s>", "</s>", "héllo"])
    writer.add_array("tokenizer.ggml.scores", [0.5, 1.5, 2.5])
    writer.add_bool("llama.flag", True)
    writer.add_float64("llama.number", 1.5)
    writer.add_custom_alignment(64)
    writer.add_tensor("first", np.arange(12, dtype=np.float32).reshape(3, 4))
    blocks = gguf.quants.quantize(np.ones((2, 64), dtype=np.float32), gguf.GGMLQuantizationType.Q8_0)
    writer.add_tensor("second", blocks, raw_dtype=gguf.GGMLQuantizationType.Q8_0)
    for step in (writer.write_header_to_file, writer.write_kv_data_to_file, writer.write_tensors_to_file, writer.close):
        step()
    return max(int(tensor.data_offset) + int(tensor.n_bytes) for tensor in GGUFReader(path).tensors)


def hdf5(version: int, size: int) -> bytes:
    """A superblock by the HDF5 file format specification 3.0, section II.A, and bytes up to ``size``."""
    base, none, end = bytes(8), b"\xff" * 8, size.to_bytes(8, "little")
    if version < 2:
        start = bytes([version, 0, 0, 0, 0, 8, 8, 0, 4, 0, 16, 0, 0, 0, 0, 0]) + (b"\x20\0\0\0" if version else b"")
        block = start + base + none + end + none
    else:
        block = bytes([version, 8, 8, 0]) + base + none + end + bytes(8)
    return (b"\x89HDF\r\n\x1a\n" + block).ljust(size, b"\0")


def served(repo: Repo, need: Need, revision: str | None = None, **kwargs: object) -> str | None:
    snapshot = choose(repo.cache, repo.repo_id, revision, need, **kwargs).snapshot  # type: ignore[arg-type]
    return snapshot.commit if snapshot else None


def told(choice: Choice) -> list[tuple[str, str]]:
    """File and problem of everything that the commits passed over lack."""
    return [(damage.file, damage.problem) for _, damages in choice.passed_over for damage in damages]


def problems(repo: Repo, files: Mapping[str, bytes | None], need: Need) -> list[tuple[str, str]]:
    """What a repository of one commit with these files lacks."""
    shutil.rmtree(repo.folder / "snapshots")
    (repo.folder / "snapshots").mkdir()
    repo.commit("only", files, ref="main")
    return told(choose(repo.cache, repo.repo_id, None, need))
