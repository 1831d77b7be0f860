"""An environment with vLLM and vLLM-Omni in it, as far as the plug-in looks: the names it needs."""

from pathlib import Path

from server.gpu.fast.needs import DROPOUT, SPEED


def lay_out(site: Path, modules: dict[str, str]) -> Path:
    """Write modules, by their path below the folder of packages."""
    for name, text in modules.items():
        file = site / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        for folder in file.relative_to(site).parents:
            if folder.name:
                (site / folder / "__init__.py").touch()
    return site


def install(site: Path, version: str = "0.24.0") -> Path:
    """Install both, of the shape that is needed."""
    for name in ("vllm", "vllm-omni"):
        about = site / f"{name.replace('-', '_')}-0.dist-info"
        about.mkdir(parents=True, exist_ok=True)
        (about / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        )
    needs = {file: [*DROPOUT.get(file, ()), *wanted] for file, wanted in SPEED.items()}
    return lay_out(site, {file: source(wanted) for file, wanted in needs.items()})


def source(needs: list[str]) -> str:
    """Return the smallest module that has what is needed."""
    lines: dict[str, list[str]] = {}
    for need in needs:
        name, _, parameters = need.rstrip(")").partition("(")
        owner, _, member = name.rpartition(".")
        own = ["self", parameters] if owner else [parameters]
        line = f"def {member}({', '.join(filter(None, own))}): ..."
        lines.setdefault(owner, []).append(line if "(" in need else f"{member} = None")
    inner = {owner: "\n    ".join(each) for owner, each in lines.items()}
    outside = inner.pop("", "").replace("\n    ", "\n")
    classes = (f"class {owner}:\n    {body}\n" for owner, body in inner.items())
    return "\n".join([outside, *classes])
