"""What the plug-in needs of vLLM, vLLM-Omni and transformers, looked up in their source text.

Nothing is imported for it: that would take seconds in every process, and the launcher asks the
same before it chooses a deploy file. What is needed is written as

    NAME                    a function, class, constant or import of the module
    NAME(a, b)              a function with these first parameters
    Class.name              a method, a field, or an attribute that some method sets
    Class.name(a, b)        a method with these first parameters, `self` not counted
"""

import ast
from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

Needs = Mapping[str, tuple[str, ...]]
"""What is needed of each file, by its path below the folder of packages."""

_MIMO = "vllm_omni/model_executor/models/mimo_audio"

DROPOUT: Needs = {f"{_MIMO}/mimo_audio_llm.py": ("MiMoAudioQwen2Model.__init__(config)",)}
"""All that the correction of dropout needs, in any version."""


VERSIONS = {"vllm": "0.24.", "vllm-omni": "0.24."}
"""What the faster steps were measured with; others may mean other things by the same names."""

_LLM = "MiMoAudioLLMForConditionalGeneration"
SPEED: Needs = {
    f"{_MIMO}/mimo_audio_llm.py": (
        f"{_LLM}.forward(input_ids, positions, intermediate_tensors, inputs_embeds)",
        f"{_LLM}.compute_logits(hidden_states)",
        f"{_LLM}._generate_speech_tokens_and_audio_embeddings(hidden_states)",
        f"{_LLM}.base_local_forward(local_embeds)",
        f"{_LLM}._cached_new_audio_emb_by_req",
        f"{_LLM}.audio_channels",
        f"{_LLM}.delay_pattern",
        f"{_LLM}.empty_token_id",
        f"{_LLM}.group_size",
        f"{_LLM}.hidden_states_downcast",
        f"{_LLM}.input_local_transformer_cg_by_bs",
        f"{_LLM}.local_config",
        f"{_LLM}.local_forward_cg_by_bs",
        f"{_LLM}.local_sampler",
        f"{_LLM}.local_transformer",
        f"{_LLM}.local_transformer_lm_heads",
        f"{_LLM}.model",
        f"{_LLM}.speech_embeddings",
        f"{_LLM}.speech_embeddings_to_local",
        f"{_LLM}.speech_empty_ids",
        "MiMoSampler.do_sample",
    ),
    f"{_MIMO}/mimo_audio.py": ("MiMoAudioForConditionalGeneration.fused_thinker_talker",),
    f"{_MIMO}/mimo_audio_code2wav.py": (
        "MiMoAudioToken2WavForConditionalGenerationVLLM._batch_chunked_decode_streaming"
        "(request_codes_list, default_chunk_size, default_left_context_size)",
    ),
    "vllm_omni/model_executor/stage_input_processors/mimo_audio.py": (
        "llm2code2wav_async_chunk(transfer_manager, multimodal_output, request, is_finished)",
        "prepend_and_flatten_colmajor(x, pad_vec)",
        "_to_code_tensor(codes)",
        "_make_finished_sentinel",
        "CodesStruct",
        "MetaStruct",
        "OmniPayloadStruct",
        "TALKER_CODEC_PAD_TOKEN_ID",
    ),
    "vllm_omni/distributed/omni_connectors/transfer_adapter/chunk_transfer_adapter.py": (
        "OmniChunkTransferAdapter.code_prompt_token_ids",
        "OmniChunkTransferAdapter.connector",
    ),
    "vllm_omni/worker/gpu_model_runner.py": ("OmniGPUModelRunner.load_model",),
    "vllm_omni/core/sched/omni_ar_scheduler.py": ("OmniARScheduler.schedule",),
    "vllm/v1/core/sched/scheduler.py": (
        "Scheduler.max_num_running_reqs",
        "Scheduler.running",
        "Scheduler.waiting",
    ),
    "vllm/v1/core/sched/request_queue.py": (
        "RequestQueue.add_request(request)",
        "RequestQueue.remove_requests(requests)",
    ),
    "vllm/compilation/cuda_graph.py": (
        "CUDAGraphWrapper.__init__(runnable, vllm_config, runtime_mode)",
        "CUDAGraphWrapper.unwrap",
    ),
    "vllm/config/attention.py": ("AttentionConfig.flash_attn_max_num_splits_for_cuda_graph",),
    "vllm/forward_context.py": (
        "ForwardContext.cudagraph_runtime_mode",
        "get_forward_context",
    ),
    "vllm/entrypoints/openai/models/serving.py": (
        "OpenAIServingModels.engine_client",
        "OpenAIServingModels.show_available_models",
    ),
    "transformers/models/qwen2/modeling_qwen2.py": (
        "Qwen2Attention.k_proj",
        "Qwen2Attention.o_proj",
        "Qwen2Attention.q_proj",
        "Qwen2Attention.v_proj",
        "Qwen2DecoderLayer.input_layernorm",
        "Qwen2DecoderLayer.mlp",
        "Qwen2DecoderLayer.post_attention_layernorm",
        "Qwen2DecoderLayer.self_attn",
        "Qwen2MLP.down_proj",
        "Qwen2MLP.gate_proj",
        "Qwen2MLP.up_proj",
        "Qwen2Model.layers",
        "Qwen2Model.norm",
        "Qwen2Model.rotary_emb",
        "Qwen2RMSNorm.variance_epsilon",
        "Qwen2RotaryEmbedding.forward(x, position_ids)",
    ),
    "triton/__init__.py": ("jit",),
    "vllm/v1/worker/gpu_model_runner.py": ("GPUModelRunner.model_memory_usage",),
}
"""What is replaced, and what the replacements use."""


class Site:
    """The folders that the packages are installed in."""

    def __init__(self, *folders: Path) -> None:
        self._folders = folders

    def missing(self, needs: Needs) -> list[str]:
        """Return what is not there, by name, e.g. `mimo_audio_llm.py: MiMoSampler.do_sample`."""
        return [
            f"{Path(file).name}: {need}"
            for file, wanted in needs.items()
            for found in [self._names(file)]
            for need in wanted
            if not _has(found, need)
        ]

    def _names(self, file: str) -> Mapping[str, list[str]]:
        """Return the names in a source file, each with its parameters; none if it can't be read."""
        there = [folder / file for folder in self._folders if (folder / file).is_file()]
        try:
            return dict(_of_module(ast.parse(there[0].read_text()))) if there else {}
        except (OSError, SyntaxError, ValueError):
            return {}


def installed() -> Site:
    """Return where the packages are, without importing them."""
    packages = dict.fromkeys(file.partition("/")[0] for file in SPEED)
    specs = [find_spec(package) for package in packages]
    return Site(*(Path(spec.origin).parents[1] for spec in specs if spec and spec.origin))


def other_versions() -> list[str]:
    """Return the packages that are not of the known versions, e.g. `vllm 0.30.0, not 0.24`."""
    return [
        f"{name} {found or 'is absent'}, not {known.removesuffix('.')}"
        for name, known in VERSIONS.items()
        for found in [_version(name)]
        if not found.startswith(known)
    ]


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def _has(found: Mapping[str, list[str]], need: str) -> bool:
    name, _, rest = need.partition("(")
    parameters = [each.strip() for each in rest.removesuffix(")").split(",") if each]
    return name in found and found[name][: len(parameters)] == parameters


def _of_module(tree: ast.Module) -> Iterator[tuple[str, list[str]]]:
    for node in tree.body:
        match node:
            case ast.ClassDef():
                yield node.name, []
                for name, parameters in _of_class(node):
                    yield f"{node.name}.{name}", parameters
            case ast.Import() | ast.ImportFrom():
                for each in node.names:
                    yield each.asname or each.name, []
            case _:
                yield from _defined(node)


def _of_class(tree: ast.ClassDef) -> Iterator[tuple[str, list[str]]]:
    for node in tree.body:
        for name, parameters in _defined(node):
            yield name, parameters[1:] if parameters[:1] == ["self"] else parameters
        for each in ast.walk(node):
            match each:
                case ast.Attribute(ast.Name("self"), name, ast.Store()):
                    yield name, []
                case _:
                    pass


def _defined(node: ast.stmt) -> Iterator[tuple[str, list[str]]]:
    match node:
        case ast.FunctionDef() | ast.AsyncFunctionDef():
            yield node.name, [each.arg for each in (*node.args.posonlyargs, *node.args.args)]
        case ast.Assign(targets):
            yield from ((each.id, []) for each in targets if isinstance(each, ast.Name))
        case ast.AnnAssign(ast.Name(name)):
            yield name, []
        case _:
            pass
