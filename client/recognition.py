"""Whether what listens at an address is a server of ours, by what it says of itself.

Any program may have taken the usual ports, and many answer every address with 200.
"""

from urllib.parse import urlsplit

import msgspec

from agent.keys import MODEL
from client.http import FetchError, fetch
from client.keys import authorization, key_of_environment

SERVICE = "mimo-live"
MODEL_NAME = "MiMo-Audio-7B-Instruct"
"""What vLLM-Omni serves MiMo-Audio as, where `mimo-live model --gpu` started it."""
EMBEDDED = "embedded/"
RECOGNISER_ALONE = "embedded/whisper-base"
"""What `mimo-live model --recogniser-only` says; it answers nobody."""

TIMEOUT_S = 2.0
"""Ours answers in milliseconds; longer only delays a start where something else listens."""
LARGEST_BYTES = 2**16
"""Of an answer, which has some hundred; any program may listen there."""


class _Health(msgspec.Struct):
    service: str


class _Model(msgspec.Struct):
    id: str
    owned_by: str


class _Models(msgspec.Struct):
    data: list[_Model]


def is_conversation_server(url: str) -> bool:
    """Whether a conversation server of ours answers there: `url` is `ws://…/v1/realtime`."""
    try:
        body = _found(f"http://{urlsplit(url).netloc}/healthz")
        return msgspec.json.decode(body, type=_Health).service == SERVICE
    except (FetchError, msgspec.DecodeError):
        return False


def is_model_server(url: str) -> bool:
    """Whether MiMo-Audio, or the embedded model, is ready there: `url` is `http://…/v1`.

    Raises:
        SettingsError: If the environment holds something for its key that is no key.
    """
    key = key_of_environment(MODEL)
    try:
        _found(url.removesuffix("/v1") + "/health")
        models = msgspec.json.decode(_found(f"{url}/models", key), type=_Models).data
    except (FetchError, msgspec.DecodeError):
        return False
    return any(_answers_speech(model) for model in models)


def _answers_speech(model: _Model) -> bool:
    if model.owned_by.startswith(SERVICE):
        return model.id.startswith(EMBEDDED) and model.id != RECOGNISER_ALONE
    return model.id == MODEL_NAME


def _found(url: str, key: str | None = None) -> bytes:
    return fetch(
        url,
        timeout_s=TIMEOUT_S,
        largest_bytes=LARGEST_BYTES,
        headers=authorization(key),
        follow_redirects=False,
    ).body
