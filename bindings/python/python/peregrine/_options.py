"""Keyword arguments, and messages."""

from collections.abc import Mapping, Sequence
from typing import Any, TypedDict


class Message(TypedDict):
    """A message of a conversation. Other keys are handed to the chat template."""

    role: str
    content: str


class SamplingOptions(TypedDict, total=False):
    """How tokens are chosen. What is not given is the model's default, or llama.cpp's."""

    temperature: float | None
    """Divides the logits; 0 always takes the most probable token."""
    top_k: int | None
    """Keeps the k most probable tokens; 0 keeps all."""
    top_p: float | None
    """Keeps the most probable tokens until their sum reaches this; 1 keeps all."""
    min_p: float | None
    """Keeps tokens at least this fraction as probable as the best; 0 keeps all."""
    seed: int | None
    """Seed of the draws; without it, a random one."""
    repeat_penalty: float | None
    """Divides the positive logits of recent tokens and multiplies the negative ones; 1 does nothing."""
    presence_penalty: float | None
    """Subtracted from the logit of each recent token."""
    frequency_penalty: float | None
    """Subtracted from the logit of a recent token once per occurrence."""
    repeat_last_n: int | None
    """Number of last tokens that penalties look at, at most 4096."""
    logit_bias: Mapping[int, float] | None
    """Added to the logits of these ids; -inf bans a token."""


class AnswerOptions(TypedDict, total=False):
    """When an answer ends, and what it must be. json_schema, regex, choice and grammar exclude each other."""

    max_tokens: int | None
    """Maximum number of tokens; without it, the model's default, or none."""
    stop: str | Sequence[str] | None
    """Strings that end the answer and are not part of it."""
    json_schema: str | Mapping[str, Any] | None
    """JSON that this schema allows."""
    regex: str | None
    """A text that this regular expression matches from beginning to end."""
    choice: Sequence[str] | None
    """One of these texts."""
    grammar: str | None
    """A text of this grammar, in Lark, whose first rule is `start`."""


class GenerateOptions(SamplingOptions, AnswerOptions, total=False):
    """Both."""
