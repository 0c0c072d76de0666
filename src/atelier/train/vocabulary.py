"""Learning a small byte-pair vocabulary from captions, in the shape of CLIP's."""

from __future__ import annotations

import json
from collections.abc import Iterable

from tokenizers import Regex, Tokenizer, normalizers, pre_tokenizers, trainers
from tokenizers.models import BPE

from atelier.weights.tokenizer import PATTERN, ClipTokenizer

END_OF_WORD = "</w>"


def learn(captions: Iterable[str], size: int, positions: int) -> ClipTokenizer:
    """A vocabulary of at most `size` entries: 256 bytes, 256 bytes that end a word, merges, and the two marks.

    Sources: Sennrich 2016 (byte-pair encoding); the order of entries is that of OpenAI's CLIP.
    """
    learner = Tokenizer(BPE(end_of_word_suffix=END_OF_WORD))
    learner.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    learner.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PATTERN), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=size - 2,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        end_of_word_suffix=END_OF_WORD,
        show_progress=False,
    )
    learner.train_from_iterator(captions, trainer)
    merges = json.loads(learner.to_str())["model"]["merges"]
    return ClipTokenizer.from_merges([(left, right) for left, right in merges][: size - 514], positions)
