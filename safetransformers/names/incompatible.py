"""What is said where an Auto class, or a pipeline's task, does not fit a checkpoint."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any, Final

from .. import compat
from ..errors import IncompatiblePreprocessorError, IncompatibleTaskError
from .suggestions import OFF, Suggestions
from .tasks import TASKS

_SHOWN: Final = 4


def model_error(found: Suggestions) -> IncompatibleTaskError:
    """The Auto class of a model does not take this kind of configuration."""
    task = TASKS.get(found.requested)
    wanted = f" that gives {task.gives}" if task and task.reads != "any" else f" for {found.requested}"
    why = f"transformers {version('transformers')} has no {found.model_type!r} model{wanted}"
    return _made(IncompatibleTaskError, "ST-TASK-001", found, f"{found.requested} does not load it", why)


def preprocessor_error(found: Suggestions, failure: BaseException) -> IncompatibleTaskError:
    """There is no tokenizer or processor of the kind that was asked for; the error is of the type that was raised."""
    wide = isinstance(failure, (OSError, KeyError))
    cls = IncompatiblePreprocessorError if wide else IncompatibleTaskError
    why = f"transformers {version('transformers')} has no {found.requested} for {found.model_type!r}"
    if not found.ranked:
        why += ", nor any other tokenizer or processor"
    return _made(cls, "ST-TASK-002", found, f"it has nothing for {found.requested}", why)


def pipeline_error(task: str, found: Suggestions, failure: BaseException) -> IncompatibleTaskError:
    """The checkpoint has no head for a pipeline's task."""
    classes = compat.pipeline_classes(task)
    cls = IncompatiblePreprocessorError if isinstance(failure, (OSError, KeyError)) else IncompatibleTaskError
    why = f"transformers {version('transformers')} has no {' or '.join(classes)} for {found.model_type!r}"
    tasks = tasks_of(found)
    do = f"pipeline({tasks[0]!r}, model=...)  # the tasks that it was saved for: {', '.join(tasks)}" if tasks else ""
    return _made(cls, "ST-TASK-003", found, f"it has no head for the task {task!r}", why, do)


def tasks_of(found: Suggestions) -> tuple[str, ...]:
    """The pipelines' tasks that the class of the checkpoint serves."""
    from transformers.pipelines import SUPPORTED_TASKS

    served = [one.auto_class for one in found.ranked if one.fit == "saved"]
    settings: dict[str, Any] = dict(SUPPORTED_TASKS)
    tasks = {task: [cls.__name__ for cls in made["pt"]] for task, made in settings.items()}
    return tuple(task for auto in served for task, classes in tasks.items() if auto in classes)


def _made(
    cls: type[IncompatibleTaskError], code: str, found: Suggestions, what: str, why: str, do: str = ""
) -> IncompatibleTaskError:
    lines = [str(one) for one in found.ranked[: 1 if do else _SHOWN]]
    return cls(
        code,
        f"{found.describe()}: {what}",
        why="; ".join([why, *found.notes]),
        do="\n    ".join([do, *lines] if do else lines),
        off=OFF,
        requested=found.requested,
        model_type=found.model_type,
        suggestions=found.ranked,
        accepted=found.accepted,
    )
