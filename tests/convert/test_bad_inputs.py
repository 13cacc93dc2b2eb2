"""Bad input gives a clear error; nothing is written, nothing is executed, nothing outside the folder is touched."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import pytest
import sample

from safetransformers import convert
from safetransformers.errors import SafeTransformersError

pytestmark = [
    pytest.mark.skipif(not sample.bad(), reason=sample.MISSING),
    pytest.mark.filterwarnings("ignore::safetransformers.errors.ConversionWarning"),
]
_MARK = Path("/tmp/tfsaves_code_was_run")  # what the code inside the bad files would write


@pytest.mark.parametrize("name", sample.bad())
def test_a_bad_input_gives_what_the_sample_says_and_harms_nothing(name: str, tmp_path: Path) -> None:
    case = sample.bad()[name]
    archive = sample.ROOT / "bad" / f"{name}.tar.xz"
    source, destination = tmp_path / name, tmp_path / "dst"
    if archive.exists():
        sample.unpack(archive, source)
    for beside in case.get("beside", ()):
        shutil.copy(sample.ROOT / "bad" / beside, tmp_path)
    if "dst_has" in case:
        destination.mkdir()
        (destination / case["dst_has"]).write_text("mine")
    before = _digests(tmp_path)
    error: SafeTransformersError | None = None
    try:
        text = str(convert(source, destination))
    except SafeTransformersError as raised:
        error, text = raised, str(raised)
    is_converted = error is None
    if error is not None:
        assert isinstance(error, OSError) and isinstance(error, ValueError) and error.what
        assert len(text.splitlines()) <= 10 and str(tmp_path) not in text
    after = _digests(tmp_path)
    assert {file: after.get(file) for file in before} == before
    assert not _MARK.exists()
    if not is_converted:
        assert after == before  # neither a destination nor anything beside it
    expected = case["expect"]
    assert is_converted != (expected == "error") or expected in {"safe", "error_or_report"}
    if is_converted and "mention" in case:
        assert any(word in text.lower() for word in case["mention"])


def test_a_weight_behind_an_external_link_is_never_read(tmp_path: Path) -> None:
    case = sample.bad()["h5_external_link"]
    source = sample.unpack(sample.ROOT / "bad" / "h5_external_link.tar.xz", tmp_path / "save")
    shutil.copy(sample.ROOT / "bad" / case["beside"][0], tmp_path)
    with pytest.raises(SafeTransformersError, match="ST-TF-004"):
        convert(source, tmp_path / "dst")


def _digests(folder: Path) -> dict[str, str]:
    files = (file for file in folder.rglob("*") if file.is_file())
    return {str(file): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}
