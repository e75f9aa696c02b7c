"""What an engine's last lines tell."""

import pytest

from homeport.engines import last_words

TOO_LARGE = """\
0.02.759.467 W common_fit_params: failed to fit params to free device memory
0.03.231.302 E ggml_aligned_malloc: insufficient memory (attempted to allocate 36621.56 MB)
0.03.251.417 E llama_init_from_model: failed to initialize the context: failed to allocate buffer
llama.cpp did not start: Failed to init server, please check the input params.
"""
CUT_OFF = """\
0.00.004.619 E llama_model_load: error loading model: tensor 'a' data is not within the file bounds, \
model is corrupted or incomplete
0.00.004.636 E llama_model_load_from_file_impl: failed to load model
"""
NEW = "E llama_model_load: error loading model: unknown model architecture: 'next'\n"
MISSING = "0.01 E llama_model_load: error loading model: missing tensor 'blk.3.attn_q.weight'\n"


@pytest.mark.parametrize(
    ("text", "line", "hint"),
    [
        (TOO_LARGE, "ggml_aligned_malloc: insufficient memory", "a smaller context (--ctx"),
        (CUT_OFF, "llama_model_load: error loading model: tensor 'a'", "download it again"),
        (NEW, "E llama_model_load: error loading model: unknown", "a newer llama-server"),
        (MISSING, "llama_model_load: error loading model: missing tensor", ""),
        ("RuntimeError: CUDA out of memory. Tried\n", "RuntimeError: CUDA", "a smaller context"),
    ],
)
def test_the_line_that_tells_and_what_helps(text: str, line: str, hint: str) -> None:
    words = last_words.telling(text)
    assert words is not None
    assert words.line.startswith(line)
    assert hint in words.hint


@pytest.mark.parametrize("text", ["", "\n", "loading\n", "out of luck\n"])
def test_what_tells_nothing(text: str) -> None:
    assert last_words.telling(text) is None


def test_the_last_line_that_says_something() -> None:
    assert last_words.last("first\n0.01.002 E  second \n\n  \n") == "second"
    assert last_words.last(" \n") == ""


def test_lines_are_bounded() -> None:
    long = "out of memory " * 1000
    words = last_words.telling(long)
    assert words is not None
    assert len(words.line) == len(last_words.last(long)) == last_words.MAX_CHARS
