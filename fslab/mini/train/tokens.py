"""Tokenizers made from the captions' words: byte-pair encoding for CLIP, word pieces for BERT."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

from transformers import BertTokenizer, CLIPTokenizer

from fslab.datasets import VOC
from fslab.mini.captions import captions_words, prompt_words

LENGTH = 32
"""Longest text in tokens, start and end included."""


def known_words() -> list[str]:
    """List the words with tokens of their own: of captions, prompts, VOC's synonyms; sorted."""
    texts = [*VOC.names, *VOC.spoken.values()]
    texts += [text for texts_of_one in VOC.synonyms.values() for text in texts_of_one]
    words = {word for text in texts for word in text.split()}
    return sorted(words | set(captions_words()) | set(prompt_words()))


def make_clip_tokenizer() -> CLIPTokenizer:
    """Return a CLIP tokenizer in which every caption word is one token, bytes catch the rest.

    The end token has the highest id: CLIPTextModel finds it that way when it pools.
    """
    letters = _byte_letters()
    merges = _learn_merges(known_words())
    tokens = [*letters, *(letter + "</w>" for letter in letters), *("".join(one) for one in merges)]
    tokens = [*dict.fromkeys(tokens), "<|startoftext|>", "<|endoftext|>"]
    vocabulary = {token: number for number, token in enumerate(tokens)}
    return CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=LENGTH)


def make_bert_tokenizer() -> BertTokenizer:
    """Return BLIP's tokenizer, BERT's with [DEC] and [ENC]; single letters catch other words."""
    letters = list("abcdefghijklmnopqrstuvwxyz0123456789.,")
    pieces = ["##" + letter for letter in letters]
    words = [word for word in known_words() if word not in letters]
    marks = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[DEC]", "[ENC]"]
    tokens = [*marks, *letters, *pieces, *words]
    tokenizer = BertTokenizer(
        vocab={token: number for number, token in enumerate(tokens)}, model_max_length=LENGTH
    )
    tokenizer.add_special_tokens({"bos_token": "[DEC]", "additional_special_tokens": ["[ENC]"]})
    return tokenizer


def _byte_letters() -> list[str]:
    """Return the 256 letters by which GPT-2 and CLIP write bytes."""
    shown = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = 256 - len(shown)
    return [chr(code) for code in shown] + [chr(256 + extra) for extra in range(hidden)]


def _learn_merges(words: list[str]) -> list[tuple[str, str]]:
    """Learn byte-pair merges until each word is one token: the commonest pair first."""
    split = [[*word[:-1], word[-1] + "</w>"] for word in words]
    merges: list[tuple[str, str]] = []
    while True:
        pairs = Counter(pair for parts in split for pair in pairwise(parts))
        if not pairs:
            return merges
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append(best)
        split = [_merge(parts, best) for parts in split]


def _merge(parts: list[str], pair: tuple[str, str]) -> list[str]:
    """Join each occurrence of a pair in a word's parts."""
    merged: list[str] = []
    for part in parts:
        if merged and (merged[-1], part) == pair:
            merged[-1] += part
        else:
            merged.append(part)
    return merged
