"""The part of vLLM that the plug-in imports; vLLM is in an environment of its own."""
