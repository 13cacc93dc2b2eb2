"""An index beyond its table, on the CPU: torch's own error, and a note that names tensor, value, place and limit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
from device_models import PlaceholderModel, bart, multiple_choice, note_of, roberta
from models import PAD, padded_rows, tiny
from torch import Tensor, nn

import safetransformers as st

_IDS = torch.tensor([[5, 6, 7], [8, 9, 10]])


def with_value(value: int, *place: int, like: Tensor = _IDS) -> Tensor:
    changed = like.clone()
    changed[place] = value
    return changed


class Failure(NamedTuple):
    """A call that plain torch refuses: the model, its arguments, and what the note has to say."""

    model: Callable[[], Any]
    kwargs: dict[str, Any]
    code: str
    says: str


def bert() -> Any:
    return tiny("bert-classifier")


def gpt2() -> Any:
    return tiny("gpt2")


def t5() -> Any:
    return tiny("t5")


_LONG = torch.full((2, 65), 5)
_ZEROS = torch.zeros_like(_IDS)
_ID = "ST-ASSERT-001"
_LABEL = "ST-ASSERT-002"
_POSITION = "ST-ASSERT-003"
FAILURES = {
    "an id too large": Failure(
        gpt2, {"input_ids": with_value(64, 1, 2)}, _ID, "input_ids holds 64 at row 1, column 2, and transformer.wte of"
    ),
    "a negative id": Failure(gpt2, {"input_ids": with_value(-3, 0, 1)}, _ID, "input_ids holds -3 at row 0, column 1"),
    "the ignored label among the ids": Failure(bert, {"input_ids": with_value(-100, 1, 0)}, _ID, "probably labels"),
    "a decoder id": Failure(
        t5, {"input_ids": _IDS, "decoder_input_ids": with_value(70, 1, 1)}, _ID, "decoder_input_ids holds 70 at row 1"
    ),
    "a token type": Failure(
        bert,
        {"input_ids": _IDS, "token_type_ids": with_value(2, 0, 2, like=_ZEROS)},
        _ID,
        "token_type_ids holds 2 at row 0, column 2, and bert.embeddings.token_type_embeddings of",
    ),
    "a position": Failure(
        gpt2,
        {"input_ids": _IDS, "position_ids": with_value(64, 1, 0, like=_ZEROS)},
        _POSITION,
        "position_ids holds 64 at row 1, column 0",
    ),
    "a row longer than a GPT-2 has positions": Failure(
        gpt2,
        {"input_ids": _LONG},
        _POSITION,
        "input_ids needs 65 positions, and transformer.wpe of GPT2LMHeadModel has 64",
    ),
    "a row longer than a BERT has positions": Failure(
        bert, {"input_ids": _LONG}, _POSITION, "input_ids needs 65 positions"
    ),
    "a row longer than a RoBERTa has positions": Failure(
        roberta,
        {"input_ids": _LONG[:, :64]},
        _POSITION,
        "input_ids needs 64 positions, and embeddings.position_embeddings",
    ),
    "a decoder row longer than a BART has positions": Failure(
        bart, {"input_ids": _IDS, "decoder_input_ids": _LONG}, _POSITION, "decoder_input_ids needs 65 positions"
    ),
    "a class that there is not": Failure(
        bert, {"input_ids": _IDS, "labels": torch.tensor([1, 2])}, _LABEL, "labels holds 2 at row 1, and"
    ),
    "a label of -1": Failure(
        bert, {"input_ids": _IDS, "labels": torch.tensor([-1, 0])}, _LABEL, "labels[labels == -1] = -100"
    ),
    "a label beyond the vocabulary": Failure(
        t5, {"input_ids": _IDS, "labels": with_value(64, 0, 1)}, _LABEL, "labels holds 64 at row 0, column 1"
    ),
    "a choice that there is not": Failure(
        multiple_choice,
        {"input_ids": _IDS.repeat(2, 1, 1), "labels": torch.tensor([0, 2])},
        _LABEL,
        "labels holds 2 at row 1, and BertForMultipleChoice has 2 classes (the choices of each row)",
    ),
}


def failure(model: Any, **kwargs: Any) -> Exception:
    with pytest.raises((IndexError, RuntimeError)) as info, torch.no_grad():
        model(**kwargs)
    return info.value


@pytest.mark.parametrize("name", FAILURES)
def test_torchs_own_error_stays_and_says_which_value_of_which_tensor(name: str) -> None:
    make, kwargs, code, says = FAILURES[name]
    plain, error = failure(make(), **kwargs), failure(st.guard(make()), **kwargs)
    assert (type(error), error.args) == (type(plain), plain.args)
    assert note_of(error).startswith(f"[{code}] ")
    assert says in note_of(error)
    assert len(note_of(error).splitlines()) <= 10
    assert st.explain(error).code == code  # type: ignore[union-attr]


def test_a_user_who_wants_torchs_error_alone_has_it() -> None:
    st.configure(errors="off")
    assert note_of(failure(st.guard(gpt2()), input_ids=with_value(99, 0, 0))) == ""


@pytest.mark.parametrize(
    "kwargs",
    [
        {"input_ids": _IDS.float()},
        {"input_ids": _IDS, "labels": torch.tensor([1, 0, 1])},
    ],
)
def test_a_failure_of_another_kind_gets_no_note(kwargs: dict[str, Any]) -> None:
    with pytest.raises((ValueError, RuntimeError)) as info:
        st.guard(bert())(**kwargs)
    assert note_of(info.value) == ""


def test_the_place_is_that_in_the_users_own_rows_also_where_they_were_moved() -> None:
    ids = padded_rows("left")
    model = st.guard(tiny("bert"))
    assert ids[1, 0] == PAD
    assert "holds 99 at row 1, column 5" in note_of(failure(model, input_ids=with_value(99, 1, 5, like=ids)))
    st.guard(model, padding="exact")
    note = note_of(failure(model, input_ids=with_value(99, 1, 5, like=ids)))
    assert "input_ids holds 99, and" in note  # rows run in groups: the place in a group is none of the user's


def test_a_causal_model_is_told_of_the_label_that_the_loss_looked_up() -> None:
    labels = torch.tensor([[-1, 6, 7], [8, 9, -7]])  # it leaves out the first column
    assert "labels holds -7 at row 1, column 2" in note_of(failure(st.guard(gpt2()), input_ids=_IDS, labels=labels))


def test_the_limit_is_that_of_the_table_as_it_is_now() -> None:
    model = st.guard(gpt2())
    failure(model, input_ids=with_value(64, 0, 0))
    model.resize_token_embeddings(70)
    model(input_ids=with_value(69, 0, 0))
    assert "has 70 rows" in note_of(failure(model, input_ids=with_value(70, 0, 0)))
    model.set_input_embeddings(nn.Embedding(80, 32))
    assert "has 80 rows" in note_of(failure(model, input_ids=with_value(80, 0, 0)))


def test_an_id_that_is_not_looked_up_is_not_blamed_for_the_failure_of_another_table() -> None:
    model = st.guard(PlaceholderModel(tiny("bert").config))
    model(input_ids=with_value(500, 0, 1))
    assert note_of(failure(model, input_ids=with_value(500, 0, 1), kinds=with_value(7, 1, 1))) == ""
    assert "holds 99 at row 1" in note_of(failure(model, input_ids=with_value(99, 1, 0)))


def test_generating_beyond_the_last_position_says_so() -> None:
    model = st.guard(gpt2())
    with pytest.raises(IndexError) as info:
        model.generate(_IDS, max_new_tokens=70, min_new_tokens=70)
    assert note_of(info.value).startswith(f"[{_POSITION}] ")
