"""Tests that need torch are not collected where there is none."""

from importlib.util import find_spec

collect_ignore = [] if find_spec("torch") else ["with_torch"]
