"""The files that vLLM-Omni reads: the prompt they make, and how they tune it."""

import json
import re
from pathlib import Path
from typing import Any, cast

import pytest
import yaml
from jinja2.ext import loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

ROOT = Path(__file__).parents[2]
CONFIGS = ROOT / "configs"
CASES = json.loads((ROOT / "tests" / "golden" / "chat_template_cases.json").read_text())
CLIP = "<|sosp|><|empty|><|eosp|>"
ASKED = "<|im_start|>assistant\n<|sostm|>"
NO_SYSTEM = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"

Message = dict[str, object]


def render(
    messages: list[Message], tools: list[object] | None = None, add_generation_prompt: bool = True
) -> str:
    """Render as transformers does, with what vLLM gives it."""
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols]
    )
    environment.filters["tojson"] = lambda value: json.dumps(value, ensure_ascii=False)
    template = environment.from_string((CONFIGS / "chat_template.jinja").read_text())
    return template.render(
        messages=messages, tools=tools, add_generation_prompt=add_generation_prompt
    )


def turn(role: str, content: str) -> str:
    return f"<|im_start|>{role}\n{content}<|im_end|>\n"


@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
def test_the_prompt_is_what_the_model_was_trained_on(case: dict[str, Any]):
    prompt = render(case["messages"], case["tools"], case["add_generation_prompt"])
    assert prompt == case["rendered"]


def test_the_agent_may_speak_first():
    assert render([]) == NO_SYSTEM + ASKED
    greet: Message = {"role": "system", "content": "Greet the caller."}
    assert render([greet]) == turn("system", "Greet the caller.") + ASKED
    hello: Message = {"role": "assistant", "content": "Hello."}
    told = turn("system", "Greet the caller.")
    said = turn("assistant", "<|sostm|>Hello.<|eot|><|eostm|>")
    assert render([greet, hello]) == told + said + ASKED


@pytest.mark.parametrize(
    ("content", "heard"),
    [
        (f"one {CLIP}\n two", f"one  two{CLIP}"),
        (f"one {CLIP} two {CLIP}", f"one  two{CLIP}"),
        (f"{CLIP}\n\n\n  one\ntwo\t", f"one\ntwo{CLIP}"),
        (f"{CLIP}\n \t\n", CLIP),
        ("<|sosp|><|empty|> \n", "<|sosp|><|empty|> \n"),
        ("{{ messages }}", "{{ messages }}"),
        ('<b>"it\'s"</b> & so', '<b>"it\'s"</b> & so'),
        ("", ""),
        (None, ""),
    ],
)
def test_who_speaks_to_the_model_is_heard_words_first(content: str | None, heard: str):
    messages: list[Message] = [{"role": "system", "content": content}]
    assert render(messages, None, False) == turn("system", heard)
    for role in ("user", "system"):
        messages = [{"role": "user", "content": "a"}, {"role": role, "content": content}]
        assert render(messages, None, False) == NO_SYSTEM + turn("user", "a") + turn(role, heard)
    messages = [{"role": "tool", "content": content}]
    result = f"<tool_response>\n{heard}\n</tool_response>"
    assert render(messages, None, False) == NO_SYSTEM + turn("user", result)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (f"{CLIP}\n\nHello. ", "\nHello. <|eot|><|empty|><|eostm|>"),
        (f"One.\n{CLIP}\nTwo.", "One.\n\nTwo.<|eot|><|empty|><|eostm|>"),
        (f"{CLIP}{CLIP} One.", " One.<|eot|><|empty|><|eostm|>"),
        ("  One.  \n", "  One.  \n<|eot|><|eostm|>"),
        ("\n", "<|eot|><|eostm|>"),
        ("<think>\nHm.\n</think>\nOne.", "<think>\nHm.\n</think>\nOne.<|eot|><|eostm|>"),
        ([{"type": "text", "text": "One."}], "<|eot|><|eostm|>"),
    ],
)
def test_what_the_model_said_loses_one_newline_and_its_sound(content: object, said: str):
    prompt = render([{"role": "assistant", "content": content}])
    assert prompt == NO_SYSTEM + turn("assistant", f"<|sostm|>{said}") + ASKED


def test_what_the_model_never_saw_is_left_out():
    call = {"id": "1", "type": "function", "function": {"name": "now", "arguments": "{}"}}
    messages: list[Message] = [
        {"role": "assistant", "tool_calls": [call], "reasoning_content": "Hm."},
        {"role": "developer", "content": "Be kind."},
        {"role": "function", "content": "7"},
    ]
    said = turn("assistant", "<|sostm|><|eot|><|eostm|>")
    assert render(messages) == NO_SYSTEM + said + ASKED


def test_tool_results_apart_are_turns_of_their_own():
    messages: list[Message] = [
        {"role": "tool", "content": "1"},
        {"role": "developer", "content": "between"},
        {"role": "tool", "content": "2"},
    ]
    one, two = (turn("user", f"<tool_response>\n{n}\n</tool_response>") for n in "12")
    assert render(messages, None, False) == NO_SYSTEM + one + two


def test_with_tools_only_the_first_system_message_takes_them():
    tool = {"name": 'größer "<&>"', "strict": True}
    messages: list[Message] = [
        {"role": "system", "content": f" {CLIP}\nA"},
        {"role": "system", "content": f" {CLIP}\nB"},
    ]
    prompt = render(messages, [tool], False)
    assert prompt.startswith(f"<|im_start|>system\n {CLIP}\nA\n\n# Tools\n")
    assert '<tools>\n{"name": "größer \\"<&>\\"", "strict": true}\n</tools>' in prompt
    assert prompt.endswith(f"</tool_call><|im_end|>\n<|im_start|>system\nB{CLIP}<|im_end|>\n")
    assert render(messages, [], False) == turn("system", f"A{CLIP}") + turn("system", f"B{CLIP}")


STAGE = {
    "max_num_seqs": 1,
    "enforce_eager": True,
    "trust_remote_code": True,
    "enable_prefix_caching": False,
    "max_num_batched_tokens": 8192,
    "max_model_len": 8192,
    "devices": "0",
}
SAMPLING = {"max_tokens": 18192, "seed": 42}
STOCK = {
    "async_chunk": True,
    "dtype": "bfloat16",
    "connectors": {
        "connector_of_shared_memory": {
            "name": "SharedMemoryConnector",
            "extra": {
                "shm_threshold_bytes": 365536,
                "codec_streaming": True,
                "connector_get_sleep_s": 0.001,
                "connector_get_max_wait_first_chunk": 3000,
                "connector_get_max_wait": 300,
                "codec_chunk_frames": 30,
                "codec_left_context_frames": 40,
            },
        }
    },
    "stages": [
        {
            **STAGE,
            "stage_id": 0,
            "gpu_memory_utilization": 0.5,
            "output_connectors": {"to_stage_1": "connector_of_shared_memory"},
            "default_sampling_params": {
                **SAMPLING,
                "temperature": 0.6,
                "top_p": 0.95,
                "top_k": 50,
                "repetition_penalty": 1.1,
            },
        },
        {
            **STAGE,
            "stage_id": 1,
            "gpu_memory_utilization": 0.3,
            "async_scheduling": False,
            "input_connectors": {"from_stage_0": "connector_of_shared_memory"},
            "default_sampling_params": {
                **SAMPLING,
                "temperature": 0.0,
                "top_p": 1.0,
                "top_k": -1,
            },
        },
    ],
}
"""What the file inside vLLM-Omni 0.24 says."""


def values(tree: object, path: str = "") -> dict[str, object]:
    """Flatten to `{path: value}`; a stage is named by its id."""
    if isinstance(tree, dict):
        members = [(str(key), each) for key, each in cast(dict[object, object], tree).items()]
    elif isinstance(tree, list):
        parts = cast(list[object], tree)
        stages = [cast(dict[str, object], part) for part in parts if isinstance(part, dict)]
        if len(stages) < len(parts):
            return {path: parts}
        members = [(str(stage["stage_id"]), stage) for stage in stages]
    else:
        return {path: tree}
    found: dict[str, object] = {}
    for key, each in members:
        found |= values(each, f"{path}/{key}")
    return found


def differing(name: str) -> dict[str, object]:
    ours = values(yaml.safe_load((CONFIGS / name).read_text()))
    return {path: value for path, value in ours.items() if values(STOCK).get(path) != value}


def test_the_deploy_file_is_the_stock_one_but_for_the_chunks_and_the_sampling():
    ours = values(yaml.safe_load((CONFIGS / "mimo_audio.yaml").read_text()))
    assert ours.keys() == values(STOCK).keys()
    extra = "/connectors/connector_of_shared_memory/extra"
    sampling = "/stages/0/default_sampling_params"
    assert differing("mimo_audio.yaml") == {
        f"{extra}/codec_chunk_frames": 3,
        f"{sampling}/temperature": 0.0,
        f"{sampling}/top_p": 1.0,
        f"{sampling}/top_k": -1,
        f"{sampling}/max_tokens": 3200,
    }


def test_the_deploy_file_for_48_gb_differs_in_the_memory_only():
    assert differing("mimo_audio_48gb.yaml") == {
        "/base_config": "mimo_audio.yaml",
        "/stages/0/gpu_memory_utilization": 0.55,
        "/stages/1/gpu_memory_utilization": 0.4,
    }


def test_the_deploy_file_for_the_plug_in_has_four_seats_and_graphs():
    seats = 4
    assert differing("mimo_audio_fast.yaml") == {
        "/base_config": "mimo_audio.yaml",
        "/stages/0/max_num_seqs": seats,
        "/stages/0/enforce_eager": False,
        "/stages/0/compilation_config/mode": 0,
        "/stages/0/compilation_config/cudagraph_mode": "FULL_DECODE_ONLY",
        "/stages/0/compilation_config/cudagraph_capture_sizes": [seats],
        "/stages/1/max_num_seqs": seats,
    }


@pytest.mark.parametrize("name", ["mimo_audio.yaml", "mimo_audio_48gb.yaml"])
def test_every_value_that_differs_has_its_reason_and_number_above_it(name: str):
    text = (CONFIGS / name).read_text()
    for path, value in differing(name).items():
        key = path.rpartition("/")[2]
        if key == "base_config":
            continue
        shown = re.escape(str(value))
        found = re.search(rf"((?:^ *#.*\n)+) *{key}: {shown}$", text, re.MULTILINE)
        assert found, f"{name}: no comment above {key}: {value}"
        assert re.search(r"Stock -?\d.*\d", found[1], re.DOTALL), f"{name}: no number at {key}"
