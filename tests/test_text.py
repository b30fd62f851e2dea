"""Laws of the tokenizer and the text encoder."""

from __future__ import annotations

import pytest
import torch

from sora_core.checkpoint import Model
from sora_core.pipeline import Pipeline
from sora_core.text import END, PAD, tokenize
from sora_core.world.captions import corpus


@pytest.mark.parametrize(
    "text", ["a red circle", "Ein roter Kreis, größer!", "赤い円が動く", "🔴 x²\t\n", "qwrtzpsdfghjkl"]
)
def test_no_word_is_an_error_and_none_is_lost(tiny: Model, text: str) -> None:
    ids = tiny.tokenizer.encode(text).ids
    assert ids[-1] == END and PAD not in ids
    decoded = tiny.tokenizer.decode(ids)
    normal = tiny.tokenizer.normalizer.normalize_str(text)
    assert decoded.strip() == normal.strip()


def test_case_and_outer_space_do_not_matter(tiny: Model) -> None:
    assert tiny.tokenizer.encode("  A RED circle ").ids == tiny.tokenizer.encode("a red circle").ids


def test_long_texts_are_cut_and_keep_their_end(tiny: Model, caplog: pytest.LogCaptureFixture) -> None:
    ids = tokenize(tiny.tokenizer, ["circle " * 500 + "of the last word", "circle"], 24)
    assert "cut after 23 tokens" in caplog.text and "last word" in caplog.text
    assert ids.shape == (2, 24) and ids[0, -1] == END
    assert (ids[1] == PAD).sum() > 0


def test_a_text_is_the_same_in_any_company_and_ends_in_its_summary(pipeline: Pipeline) -> None:
    short, long = "a red circle", "a red circle moves left on a sky background"
    alone, together = pipeline.encode_text([short]), pipeline.encode_text([short, long])
    torch.testing.assert_close(together[:1], alone, atol=1e-5, rtol=1e-5)
    count = len(pipeline.model.tokenizer.encode(short).ids)
    assert bool((alone[0, count:] == alone[0, count - 1]).all()) and count < alone.shape[1]
    assert not torch.isclose(alone[0, count - 2], alone[0, count - 1]).all()


def test_order_of_words_matters(pipeline: Pipeline) -> None:
    a, b = pipeline.encode_text(["red circle blue square", "blue circle red square"])
    assert not torch.allclose(a, b)


def test_captions_of_the_world_fit_the_bundled_encoder(bundled: Model) -> None:
    """But for one in a thousand, the longest of two things, which loses its last word."""
    most = bundled.text.config.max_tokens
    lengths = [len(bundled.tokenizer.encode(text).ids) for text in corpus(3000, seed=9)]
    assert most == bundled.dit.config.text_len and max(lengths) <= most + 2
    assert sum(length > most for length in lengths) <= 3


@pytest.mark.parametrize("text", ["<pad>", "a <end> red circle", "<end><pad>"])
def test_marks_in_a_prompt_are_letters(tiny: Model, text: str) -> None:
    ids = tokenize(tiny.tokenizer, [text], 24)[0].tolist()
    assert ids.count(END) == 1
    assert PAD not in ids[: ids.index(END)] and set(ids[ids.index(END) + 1 :]) == {PAD}
