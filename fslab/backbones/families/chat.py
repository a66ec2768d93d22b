"""Prompts within a chat or a template: what a language model is told around them."""

from __future__ import annotations

from typing import Any

_MARK = "\ufffc"
"""Stands where a prompt will; no template says it."""


def chat(tokenizer: Any, prompt: str, **settings: Any) -> str:
    """Return a prompt as a user's message in a tokenizer's own chat template."""
    messages = [{"role": "user", "content": prompt}]
    said: str = tokenizer.apply_chat_template(
        messages, tokenize=False, add_generation_prompt=True, **settings
    )
    return said


def start_of(tokenizer: Any, **settings: Any) -> int:
    """Return where a prompt begins in the chat template."""
    return chat(tokenizer, _MARK, **settings).index(_MARK)


def within(spans: list[tuple[int, int]], start: int, prompt: str) -> list[tuple[int, int]]:
    """Return spans in the whole text as spans in the prompt, (0, 0) for those outside it."""
    end = start + len(prompt)
    return [
        (max(a, start) - start, min(b, end) - start) if max(a, start) < min(b, end) else (0, 0)
        for a, b in spans
    ]
