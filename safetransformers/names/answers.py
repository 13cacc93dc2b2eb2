"""What is said of a name that the installed transformers does not have: too new, removed, hidden, or a typo.

Each function looks it up in the table of releases and compares with what is installed. transformers is not imported.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from typing import Final

from packaging.version import InvalidVersion, Version

from ..explanation import Explanation
from . import history, installed
from .history import Record
from .packages import pip_name

_PACKAGE: Final = "transformers"
_FRAMEWORKS: Final = {"TF": "TensorFlow", "Flax": "Flax"}
_MODULE: Final = re.compile(r"\.modeling_(tf|flax)_")
_MODEL_FOLDER: Final = re.compile(r"transformers\.models\.(\w+)")  # as a rule its model_type
_CONVERT: Final = "safetransformers convert FOLDER NEW_FOLDER  # makes torch weights of a save"
_UPGRADE: Final = f"pip install --upgrade {_PACKAGE}"


def for_name(name: str, module: str = _PACKAGE, cause: str = "") -> Explanation:
    """Of ``from module import name``, or of ``import module`` where the name is empty.

    Args:
        name: the missing name.
        module: the module that it was to come from.
        cause: what failed beneath, where that is known, such as ``"No module named 'torchvision'"``.

    Example:
        >>> for_name("AdamW").do.splitlines()[0]
        'from torch.optim import AdamW'
    """
    record = _record(name, module)
    if record is None:
        return _of_framework_module(module) if _MODULE.search(module) else _unknown_name(name, module)
    framework = _framework(name)
    if framework and record.last is not None and not record.covers(installed.transformers()):
        return _of_framework(name, framework, record)
    if history.is_newer(installed.transformers()) and record.last is None:
        return _beyond(_called(name, module), record)
    if record.covers(installed.transformers()) or (module == _PACKAGE and installed.has(name)):
        return _hidden(name, module, record, cause)
    if record.is_after(installed.transformers()):
        return _too_new("ST-NAME-001", _called(name, module), record)
    return _removed(name, module, record)


def for_model_type(model_type: str, saved_with: str | None = None) -> Explanation:
    """Of a ``model_type`` that the installed transformers does not know.

    Args:
        model_type: as ``config.json`` names it.
        saved_with: its ``transformers_version``.
    """
    record = history.of_model_type(model_type)
    called = f"model_type {model_type!r}"
    if record is None:
        return _unknown_type(model_type, saved_with)
    if history.is_newer(installed.transformers()) and record.last is None:
        return _beyond(called, record, "ST-NAME-012")
    if record.covers(installed.transformers()):
        return _of_elsewhere(called, record)
    if record.is_after(installed.transformers()):
        return _too_new("ST-NAME-011", called, record)
    return Explanation("ST-NAME-012", f"{called} was removed from transformers", _until(record), _pin(record))


def for_no_model_type(saved_with: str | None = None) -> Explanation:
    """Of a ``config.json`` without a ``model_type``."""
    why = f"the Auto classes choose by it; the file names transformers {saved_with}" if saved_with else ""
    return Explanation(
        "ST-NAME-014",
        "config.json has no model_type",
        why or "the Auto classes choose by it, and the file names no release that wrote it either",
        'add "model_type": "bert" (or what it is) to config.json, or load it with its own class, such as BertModel',
    )


def for_tokenizer_class(name: str) -> Explanation:
    """Of a tokenizer class that a checkpoint names and the installed transformers does not have."""
    record = history.of_name(name) or history.of_name(name.removesuffix("Fast"))
    what = (
        f"the checkpoint names the tokenizer class {name}, which transformers {installed.transformers()} does not have"
    )
    if record is None:
        near = _near(name, (one for one in history.names() if "Tokenizer" in one))
        why = f"no release from {_span()} has it; probably the code of the checkpoint defines it{_like(near)}"
        return Explanation("ST-NAME-021", what, why, "read the checkpoint's code, then pass trust_remote_code=True")
    if record.is_after(installed.transformers()):
        return Explanation("ST-NAME-021", what, _since(record), _at_least(record))
    if record.last is None:
        hidden = _hidden(name, _PACKAGE, record)
        return Explanation("ST-NAME-021", what, hidden.why, hidden.do)
    new = record.replacement.rpartition(".")[2]
    lines = [f'"tokenizer_class": "{new}"  # in tokenizer_config.json'] if new else []
    return Explanation("ST-NAME-021", what, _until(record), "\n    ".join([*lines, _pin(record)]))


def for_remote_import(name: str, module: str, file: str) -> Explanation:
    """Of code that came with a checkpoint and imports a name, or a module where the name is empty, that is missing.

    Args:
        name: the missing name.
        module: the module that it was to come from.
        file: the file of the checkpoint's code, without its folder.
    """
    told = for_name(name, module)
    return Explanation(
        "ST-NAME-031",
        f"the checkpoint's own code ({file}) imports {_called(name, module)}, which transformers "
        f"{installed.transformers()} does not have",
        "; ".join(part for part in (told.what, told.why) if part),
        told.do
        if told.do.startswith("pip")
        else f"{told.do}\n    # in {file}, or pin the release that it was written for",
    )


def _record(name: str, module: str) -> Record | None:
    if module == _PACKAGE:
        return history.of_name(name) or history.of_inner(module, name)
    found = history.of_inner(module, name) or (history.of_name(name) if name else None)
    if found is None and (folder := _MODEL_FOLDER.match(module)):
        model = history.of_model_type(folder[1]) or history.of_model_type(folder[1].replace("_", "-"))
        if model is not None and not model.covers(installed.transformers()):
            return model
    return found


def _too_new(code: str, called: str, record: Record) -> Explanation:
    return Explanation(code, f"{called} is newer than the installed transformers", _since(record), _at_least(record))


def _removed(name: str, module: str, record: Record) -> Explanation:
    what = f"{_called(name, module)} was removed from transformers"
    home = history.moved(name, installed.transformers()) if module != _PACKAGE else ""
    new = record.replacement or (f"{home}.{name}" if home else "")
    lines = [_import_line(new)] if new else []
    return Explanation("ST-NAME-002", what, _until(record), "\n    ".join([*lines, _pin(record)]))


def _of_framework(name: str, framework: str, record: Record) -> Explanation:
    torch_name = history.replacement_of(name)
    why = f"transformers 5.0 removed {framework}; the last release that has it is {record.last} {_table()}; {_here()}"
    lines = [_import_line(torch_name), _CONVERT] if torch_name else [_CONVERT, _pin(record)]
    return Explanation("ST-NAME-003", f"{name} is a {framework} class", why, "\n    ".join(lines))


def _beyond(called: str, record: Record, code: str = "ST-NAME-002") -> Explanation:
    """A name that went after the newest release of the table."""
    newest = history.releases()[-1]
    what = f"transformers {installed.transformers()} does not have {called}"
    why = f"{newest} still has it, and the table of releases ends there: update safetransformers to know more"
    return Explanation(code, what, why, f"pip install 'transformers=={history.minor(newest)}.*'")


def _of_elsewhere(called: str, record: Record) -> Explanation:
    """A model type that the installed transformers has: the error was raised where an older one is installed."""
    what = f"{called} is newer than the transformers that raised this error"
    why = f"the first release that has it is {record.first} {_table()}; {_here()} and has it, so probably the error "
    return Explanation(
        "ST-NAME-011", what, f"{why}comes from another environment", f"pip install 'transformers>={record.first}'"
    )


def _of_framework_module(module: str) -> Explanation:
    """The file of a model's TensorFlow or Flax classes."""
    framework = {"tf": "TensorFlow", "flax": "Flax"}[str(_MODULE.search(module)[1])]  # type: ignore[index]  # it matches
    return Explanation(
        "ST-NAME-003",
        f"{module} held the {framework} classes of a model",
        f"transformers 5.0 removed {framework}; {_here()}",
        f"import {_MODULE.sub('.modeling_', module)}  # the torch classes\n    {_CONVERT}",
    )


def _hidden(name: str, module: str, record: Record, cause: str = "") -> Explanation:
    missing = installed.backends(name)
    what = f"{_called(name, module)} is in transformers {installed.transformers()}, but the import failed"
    if not missing:
        why = cause or (
            "probably a package that it needs is missing or fails to import, or the error comes from another "
            f"environment: the first release that has it is {record.first} {_table()}"
        )
        statement = f"from {module} import {name}" if name else f"import {module}"
        return Explanation("ST-NAME-004", what, why, f"python -c '{statement}'  # shows the first failing import")
    packages = [pip_name(backend) for backend in missing]
    why = f"it needs {', '.join(packages)}, which {'is' if len(packages) == 1 else 'are'} not installed"
    return Explanation("ST-NAME-004", what, why, f"pip install {' '.join(packages)}")


def _unknown_name(name: str, module: str) -> Explanation:
    why = f"no release of transformers from {_span()} has it"
    do_else = _UPGRADE
    if module != _PACKAGE:
        # The table has neither private names nor those of a module that all releases of the table have alike.
        why = f"the table of releases, {_span()}, does not say when it came or went"
        do_else = "pip install 'transformers==...'  # the release that the code was written for"
    near = _near(name, history.names()) if module == _PACKAGE and name else []
    near = [one for one in near if (record := history.of_name(one)) and record.covers(installed.transformers())]
    do = "\n    ".join(f"from transformers import {one}" for one in near)
    what = f"transformers {installed.transformers()} does not have {_called(name, module)}"
    return Explanation("ST-NAME-005", what, why + _like(near), do or do_else)


def _unknown_type(model_type: str, saved_with: str | None) -> Explanation:
    why = f"no release of transformers from {_span()} has it"
    near = _near(model_type, history.model_types())
    newer = _newer(saved_with)
    if newer:
        why += f"; config.json was written by transformers {saved_with}, {_here()}"
    else:
        why += "; probably the checkpoint brings code of its own, or the name is mistyped"
    do = newer or "from_pretrained(..., trust_remote_code=True)  # once you have read its code"
    what = f"the installed transformers does not know model_type {model_type!r}"
    return Explanation("ST-NAME-013", what, why + _like(near), do)


def _newer(saved_with: str | None) -> str:
    """The line that gets the release which wrote a file, where that is newer than the installed one."""
    try:
        is_newer = saved_with is not None and Version(saved_with) > Version(installed.transformers())
    except InvalidVersion:
        return ""
    return f"pip install 'transformers>={Version(str(saved_with)).base_version}'" if is_newer else ""


def _since(record: Record) -> str:
    first = next(first for first, _ in record.spans if history.minor(installed.transformers()) < Version(first))
    return "; ".join(
        filter(None, (f"the first release that has it is {first} {_table()}", _here(), installed.allowance(first)))
    )


def _until(record: Record) -> str:
    """When something went, why, and whether what is installed allows the last release that has it."""
    parts = (
        f"the last release that has it is {record.last} {_table()}",
        _here(),
        record.reason,
        installed.allowance(str(record.last)),
    )
    return "; ".join(filter(None, parts))


def _at_least(record: Record) -> str:
    first, last = next(span for span in record.spans if history.minor(installed.transformers()) < Version(span[0]))
    return (
        f"pip install 'transformers>={first}'" if last is None else f"pip install 'transformers>={first},<={last}.999'"
    )


def _pin(record: Record) -> str:
    return f"pip install 'transformers=={record.last}.*'  # the last release that has it"


def _import_line(dotted: str) -> str:
    module, _, name = dotted.rpartition(".")
    return f"from {module} import {name}"


def _called(name: str, module: str) -> str:
    if not name:
        return f"the module {module}"
    return name if module == _PACKAGE else f"{name} of {module}"


def _framework(name: str) -> str:
    return next((framework for prefix, framework in _FRAMEWORKS.items() if name.startswith(prefix)), "")


def _near(name: str, known: Iterable[str]) -> list[str]:
    """Names that differ in a letter or two, or in case alone."""
    by_lower: dict[str, str] = {}
    for one in known:
        by_lower.setdefault(one.lower(), one)
    return [by_lower[one] for one in difflib.get_close_matches(name.lower(), by_lower, n=3, cutoff=0.85)]


def _like(near: list[str]) -> str:
    return f"; like it: {', '.join(near)}" if near else ""


def _here() -> str:
    return f"{installed.transformers()} is installed"


def _span() -> str:
    releases = history.releases()
    return f"{history.minor(releases[0])} to {releases[-1]}"


def _table() -> str:
    return f"(table of {history.date()})"
