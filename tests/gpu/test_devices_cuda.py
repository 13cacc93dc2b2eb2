"""Kernels that stop at an index, each in a process of its own: afterwards its CUDA context is lost."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device: none is here"),
]
_HERE = Path(__file__).parents[1]
_SETUP = f"""
    import sys
    sys.path.insert(0, {str(_HERE)!r})
    import torch
    import safetransformers as st
    from models import tiny
    st.configure(device_checks=%r)
    ids = torch.tensor([[5, 6, 7], [8, 9, 10]], device="cuda")
    bad = ids.clone()
    bad[1, 2] = 99
    mask = torch.ones_like(ids)
"""
_CALLS = {
    "an id": (
        "st.guard(tiny('gpt2').cuda())(input_ids=bad, attention_mask=mask)",
        "input_ids holds 99 at row 1, column 2",
    ),
    "an id of a prompt": ("st.guard(tiny('t5').cuda()).generate(bad)", "input_ids holds 99 at row 1, column 2"),
    "a label": (
        "st.guard(tiny('bert-classifier').cuda())(input_ids=ids, labels=torch.tensor([0, 7], device='cuda'))",
        "labels holds 7 at row 1",
    ),
    "a row too long": ("st.guard(tiny('gpt2').cuda())(input_ids=ids.repeat(1, 30))", "input_ids needs 90 positions"),
}


def run(checks: str, script: str) -> subprocess.CompletedProcess[str]:
    program = textwrap.dedent(_SETUP % checks) + textwrap.dedent(script)
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("name", _CALLS)
def test_a_record_names_what_the_kernel_stopped_at(name: str) -> None:
    call, says = _CALLS[name]
    script = f"""
    st.patch()
    output = {call}
    torch.cuda.synchronize()
    """
    ended = run("record", script)
    assert ended.returncode != 0
    assert "device-side assert" in ended.stderr
    assert says in ended.stderr
    assert "start Python anew" in ended.stderr


@pytest.mark.parametrize("name", _CALLS)
def test_eager_checks_refuse_it_and_the_device_goes_on_working(name: str) -> None:
    call, says = _CALLS[name]
    script = f"""
    try:
        {call}
    except st.errors.IndexOutOfRangeError as error:
        print(error)
    print(tiny('gpt2').cuda()(input_ids=ids).logits.isfinite().all().item())
    """
    ended = run("eager", script)
    assert ended.returncode == 0, ended.stderr
    assert says in ended.stdout
    assert ended.stdout.splitlines()[-1] == "True"


def test_a_record_waits_for_nothing_and_launches_at_most_three_things() -> None:
    script = """
    from torch.profiler import ProfilerActivity, profile
    model = st.guard(tiny("bert-classifier").cuda())
    (hook,) = (hook for hook in model._forward_pre_hooks.values() if hasattr(hook, "facts"))
    kwargs = {"input_ids": ids, "attention_mask": mask, "token_type_ids": torch.zeros_like(ids)}
    hook(model, (), kwargs)  # fills torch's cache of pinned memory
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    with profile(activities=[ProfilerActivity.CUDA]) as seen:
        hook(model, (), kwargs)
    torch.cuda.set_sync_debug_mode("default")
    print(sum(event.count for event in seen.key_averages() if event.device_type.name == "CUDA"))
    """
    ended = run("record", script)
    assert ended.returncode == 0, ended.stderr
    assert int(ended.stdout) <= 3


def test_a_captured_graph_is_captured_and_replayed_as_without_checks() -> None:
    script = """
    model = st.guard(tiny("gpt2").cuda())
    with torch.no_grad():
        expected = model(input_ids=ids, attention_mask=mask, use_cache=False).logits
        stream = torch.cuda.Stream()
        with torch.cuda.stream(stream):
            for _ in range(3):
                model(input_ids=ids, attention_mask=mask, use_cache=False)
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            output = model(input_ids=ids, attention_mask=mask, use_cache=False).logits
    graph.replay()
    torch.testing.assert_close(output, expected)
    """
    ended = run("record", script)
    assert ended.returncode == 0, ended.stderr
