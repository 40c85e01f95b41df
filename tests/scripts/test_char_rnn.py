"""The character network: counts that are a distribution, a judge that does not depend on how it reads, and bad input."""

from __future__ import annotations

import importlib.util
import math
from pathlib import Path

import pytest
import torch

from lipwright.models.recurrent import CELLS, Recurrent

_spec = importlib.util.spec_from_file_location("char_rnn", Path(__file__).parents[2] / "scripts" / "char_rnn.py")
assert _spec is not None
assert _spec.loader is not None
char_rnn = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(char_rnn)

SOURCE = (Path(__file__).parents[2] / "models" / "recurrent.py").read_text(encoding="utf-8")
SYMBOLS = char_rnn.find_symbols(SOURCE)
TEXT = "".join(SYMBOLS[k] for k in char_rnn.encode(SOURCE, SYMBOLS))
"""A real text in which rare characters are replaced."""


def untrained(symbols: int = 12, cell: str = "lstm", layers: int = 1) -> Recurrent:
    torch.manual_seed(0)
    network = Recurrent(symbols, symbols, cell=cell, hidden=16, layers=layers)
    with torch.no_grad():
        network.read_out.weight *= 10  # opinions
    return network.eval()


def some_ids(count: int = 300, symbols: int = 12) -> torch.Tensor:
    return torch.randint(symbols, (count,), generator=torch.Generator().manual_seed(1))


# n-grams --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("context", ["", "def forward(self", "zzzzzzzz", char_rnn.UNKNOWN * 3])
def test_the_probabilities_of_all_next_characters_sum_to_one(context: str) -> None:
    every = [char_rnn.ngram_probabilities(TEXT[:2000], context + symbol, len(SYMBOLS), 4) for symbol in SYMBOLS]
    for after in zip(*every, strict=True):  # one order of every symbol
        last = [p[-1] for p in after]
        assert min(last) > 0
        assert math.fsum(last) == pytest.approx(1, abs=1e-12)


def test_a_tiny_text_by_hand() -> None:
    """Order 0 of "aab": a (2 + 2·½)/(3 + 2); order 1 after a: b (1 + 2·0.4)/(2 + 2); nothing ever followed b."""
    zero, one = char_rnn.ngram_probabilities("aab", "aba", 2, 1)
    assert zero == pytest.approx([0.6, 0.4, 0.6])
    assert one == pytest.approx([0.6, 0.45, 0.6])


def test_counts_beat_a_uniform_guess_and_context_beats_none() -> None:
    orders = list(char_rnn.ngram_probabilities(TEXT[:8000], TEXT[8000:], len(SYMBOLS), 3))
    bits = [-sum(map(math.log2, p)) / len(p) for p in orders]
    assert math.log2(len(SYMBOLS)) > bits[0] > bits[1] > bits[3]


# Text -----------------------------------------------------------------------------------------------------------------


def test_rare_and_new_characters_are_the_unknown_symbol() -> None:
    symbols = char_rnn.find_symbols("b" * 20 + "a" * 20 + "c" * 19 + char_rnn.UNKNOWN * 20)
    assert symbols == char_rnn.UNKNOWN + "ab"
    assert char_rnn.encode("abcé" + char_rnn.UNKNOWN, symbols).tolist() == [1, 2, 0, 0, 0]


def test_what_is_held_out_was_not_trained_on(tmp_path: Path) -> None:
    for k in range(60):
        (tmp_path / f"{k:02}.tex").write_text(f"<{k:02}>" * 5)
    (tmp_path / "00.py").write_text("other")
    train, held_out = char_rnn.read_texts(tmp_path, ".tex", 10_000, 0, set())
    names = [set(text.replace("\n", "").replace(">", "").split("<")) - {""} for text in (train, held_out)]
    assert (len(names[0]), len(names[1])) == (57, 3)
    assert not names[0] & names[1]
    assert "other" not in train + held_out
    assert char_rnn.read_texts(tmp_path, ".tex", 10_000, 0, set()) == (train, held_out)
    assert char_rnn.read_texts(tmp_path, ".tex", 10_000, 1, set()) != (train, held_out)
    assert [len(text) for text in char_rnn.read_texts(tmp_path, ".tex", 200, 0, set())] == [200, 10]


# Network --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cell", CELLS)
def test_a_periodic_text_is_learnt(cell: str, capsys: pytest.CaptureFixture[str]) -> None:
    """In "aabc" what follows an a hangs on the character before it."""
    ids = char_rnn.encode("aabc" * 500, "abc")
    steps = 400 if cell == "rnn-relu" else 100  # with W = I it has to learn to forget first
    torch.manual_seed(0)
    network = Recurrent(3, 3, cell=cell, hidden=24)
    char_rnn.train_network(network, ids, streams=4, bptt=20, lr=0.02, steps=steps, minutes=0.0)
    assert char_rnn.bits_per_character(network, ids[:400]) < 0.05
    assert capsys.readouterr().out.splitlines()[-1].startswith(f"step    {steps} ")
    after = char_rnn.sample_ids(network, char_rnn.encode("aabca", "abc"), 7, temperature=0.1, seed=0)
    assert after.tolist() == char_rnn.encode("abcaabc", "abc").tolist()


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("chunk", [1, 7, 299, 300, 1000])
def test_bits_per_character_are_what_the_network_said_in_one_go(cell: str, chunk: int) -> None:
    network, ids = untrained(cell=cell, layers=2), some_ids()
    with torch.no_grad():
        logits, _ = network(torch.nn.functional.one_hot(ids[None], 12).float())
    said = logits[0, :-1].double().softmax(-1)[torch.arange(299), ids[1:]]
    assert char_rnn.bits_per_character(network, ids, chunk) == pytest.approx(float(-said.log2().mean()), abs=1e-5)


def test_the_same_seed_draws_the_same_text() -> None:
    network, prompt = untrained(), some_ids(5)
    first, again, other = (char_rnn.sample_ids(network, prompt, 80, temperature=1.0, seed=s) for s in (3, 3, 4))
    assert first.shape == (80,)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert len(char_rnn.sample_ids(network, prompt, 0, temperature=1.0, seed=3)) == 0


def test_a_cold_sample_is_the_likeliest_text() -> None:
    network, prompt = untrained(), some_ids(5)
    ids = torch.cat([prompt, char_rnn.sample_ids(network, prompt, 60, temperature=1e-4, seed=0)])
    with torch.no_grad():
        logits, _ = network(torch.nn.functional.one_hot(ids[None], 12).float())
    assert torch.equal(logits[0, 4:-1].argmax(-1), ids[5:])


# Command --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for k in range(3):
        (tmp_path / f"{k}.py").write_text(SOURCE[k * 3000 : (k + 1) * 3000])
    return tmp_path


SMALL = ["--hidden=8", "--steps=5", "--streams=4", "--bptt=10", "--sample=30"]


def test_the_command_says_the_same_twice(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = []
    for _ in range(2):
        char_rnn.main([str(folder), *SMALL, "--prompt", "def "])
        said.append([line for line in capsys.readouterr().out.splitlines() if not line.startswith("step")])
    assert said[0] == said[1]
    assert any("lstm" in line and "bits/character" in line for line in said[0])
    assert sum("n-grams" in line for line in said[0]) == 9
    assert "\n".join(said[0]).split("sample at temperature 0.8:\n")[1].startswith("def ")


@pytest.mark.parametrize(
    ("change", "options", "words"),
    [
        (lambda folder: folder / "none", [], "is not a folder"),
        (lambda folder: folder / "0.py", [], "is not a folder"),
        (lambda folder: folder, ["--suffix", ".tex"], "holds 0 files ending in .tex"),
        (lambda folder: folder, ["--suffix", "1.py"], "holds 1 files"),
        (lambda folder: folder, ["--streams", "1000"], "are too few for --streams 1000 times --bptt 10"),
        (lambda folder: folder, ["--max-chars", "20"], "two at least are needed to judge by"),
    ],
)
def test_bad_input_is_one_line(
    folder: Path, change: object, options: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert callable(change)
    with pytest.raises(SystemExit) as stop:
        char_rnn.main([str(change(folder)), *SMALL, *options])
    error = capsys.readouterr().err
    assert stop.value.code == 3
    assert error.startswith("char_rnn: ")
    assert error.count("\n") == 1
    assert words in error


@pytest.mark.parametrize(
    "option", ["--hidden=0", "--steps=-1", "--temperature=0", "--temperature=nan", "--lr=x", "--cell=elman"]
)
def test_options_that_make_no_sense(option: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        char_rnn.main([str(folder), option])
    assert stop.value.code == 2
    assert option.split("=")[0] in capsys.readouterr().err
