"""The same core on text: `lipwright.models.recurrent.Recurrent` learns to say the next character of a folder's files.

    python scripts/char_rnn.py [FOLDER] [--suffix .py] [--cell lstm] [--steps N | --minutes M] [--sample 400] …

One-hot characters go in, logits of the next one come out. Training is truncated BPTT: the text is cut into B streams that
are read side by side, `--bptt` steps at a time; `carry` hands the state on from window to window and stops the gradient.

The judge is bits per character on files that were not trained on: the mean of -log2 P(next character | all before it).
Beside the network stands an n-gram model of the same training text, which only counts: all orders n = 0, 1, 2, …
(characters of context), interpolated by the rule of Witten and Bell (1991)::

    P_n(w | h) = (c(h w) + k(h) P_{n-1}(w | h′)) / (c(h) + k(h))        P_{-1} = 1 / symbols

where c counts, k(h) is how many different characters followed the context h, and h′ is h without its first character.

Characters that occur fewer than `RARE` times in the training text, or never, are one "unknown" symbol, U+FFFD, to both
models: what is scored is the text with them replaced. Without FOLDER the text is Python's standard library.
"""

from __future__ import annotations

import argparse
import itertools
import math
import random
import sys
import sysconfig
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from lipwright.data.errors import InputError
from lipwright.models.recurrent import CELLS, Recurrent, State, carry

SKIPPED = {"site-packages", "test", "tests", "idlelib"}  # folders of the standard library
UNKNOWN, RARE = "\ufffd", 20
HELD_OUT = 20
"""One file in so many is held out, and one character for so many of the cap, from ten files if there are ten."""


def read_texts(folder: Path, suffix: str, max_chars: int, seed: int, skipped: set[str]) -> tuple[str, str]:
    """Return the text to train on, at most `max_chars`, and the text held out: from different files, in seeded order."""
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder; name one that holds {suffix} files")
    paths = sorted(p for p in folder.rglob("*") if p.name.endswith(suffix) and p.is_file())
    paths = [p for p in paths if not skipped.intersection(p.relative_to(folder).parts)]
    if len(paths) < 2:
        raise InputError(f"{folder} holds {len(paths)} files ending in {suffix}; one to train on, one to judge by are needed")
    random.Random(seed).shuffle(paths)
    trained = [p for k, p in enumerate(paths) if k % HELD_OUT]
    judged, most = paths[::HELD_OUT], math.ceil(max_chars / HELD_OUT)
    return read_until(trained, max_chars, max_chars), read_until(judged, most, math.ceil(most / min(len(judged), 10)))


def read_until(paths: list[Path], most: int, each: int) -> str:
    """Join files, `each` characters of one at most and a line end, up to `most`; what is not UTF-8 becomes `UNKNOWN`."""
    text = ""
    for path in paths:
        text += path.read_text(encoding="utf-8", errors="replace")[:each] + "\n"
        if len(text) > most:
            break
    return text[:most]


def find_symbols(text: str) -> str:
    """Return `UNKNOWN`, then the characters that occur `RARE` times or more, sorted."""
    return UNKNOWN + "".join(sorted(c for c, n in Counter(text).items() if n >= RARE and c != UNKNOWN))


def encode(text: str, symbols: str) -> Tensor:
    """Return the place of every character in `symbols`, (N,) int64: 0, `UNKNOWN`, where it has none."""
    places = {c: k for k, c in enumerate(symbols)}
    return torch.tensor([places.get(c, 0) for c in text], dtype=torch.int64)


def ngram_probabilities(train: str, text: str, symbols: int, most: int = 8) -> Iterator[list[float]]:
    """Yield for order 0, 1, …, `most` the probability of each character of `text` after those before it, (N,).

    P_n asks for P_{n-1} of the same character and for nothing else, so the counts of one order are in memory at a time.
    """
    p = [1 / symbols] * len(text)
    for order in range(most + 1):
        count = Counter(train[k : k + order + 1] for k in range(len(train) - order))
        total, kinds = Counter[str](), Counter[str]()
        for gram, n in count.items():
            total[gram[:-1]] += n
            kinds[gram[:-1]] += 1
        for k in range(order, len(text)):  # earlier ones have a shorter context: what a lower order said of them stands
            context = text[k - order : k]
            if new := kinds[context]:
                p[k] = (count[context + text[k]] + new * p[k]) / (total[context] + new)
        yield list(p)


def one_hot(ids: Tensor, network: Recurrent) -> Tensor:
    """Map ids (B, T) to inputs (B, T, symbols), float32."""
    return F.one_hot(ids, network.read_out.out_features).float()


def train_network(network: Recurrent, ids: Tensor, streams: int, bptt: int, lr: float, steps: int, minutes: float) -> None:
    """Train on ids (N,) by truncated BPTT, for so many minutes, or for so many steps if 0, and print how it goes."""
    length = (len(ids) - 1) // streams
    if not (windows := length // bptt):
        raise InputError(f"{len(ids)} characters to train on are too few for --streams {streams} times --bptt {bptt}")
    inputs, targets = (ids[k : k + streams * length].view(streams, length) for k in (0, 1))  # (B, length)
    optimiser = torch.optim.AdamW(network.parameters(), lr=lr)
    state: State | None = None
    losses: list[float] = []
    begun = time.monotonic()
    network.train()
    for step in itertools.count():
        spent_s = time.monotonic() - begun
        done = spent_s / 60 / minutes if minutes else step / steps
        if losses and (step % 200 == 0 or done >= 1):
            bits, pace = sum(losses) / len(losses) / math.log(2), step * streams * bptt / spent_s
            print(f"step {step:6d}  {spent_s:5.0f} s  {pace:6.0f} characters/s  training {bits:.3f} bits/character", flush=True)
            losses.clear()
        if done >= 1:
            return
        optimiser.param_groups[0]["lr"] = lr * (1 + math.cos(math.pi * done)) / 2
        window = step % windows
        if state is not None:
            state = carry(state, torch.full((streams,), window == 0))  # every stream starts anew with the text
        part = slice(window * bptt, (window + 1) * bptt)
        logits, state = network(one_hot(inputs[:, part], network), state)  # (B, T, symbols)
        loss = F.cross_entropy(logits.flatten(0, 1), targets[:, part].flatten())
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        losses.append(loss.item())


@torch.no_grad()
def bits_per_character(network: Recurrent, ids: Tensor, chunk: int = 1000) -> float:
    """Return the mean of -log2 P(ids_k | all before it), k = 1 … N-1; the state goes on from chunk to chunk."""
    network.eval()
    state, nats = None, 0.0
    for start in range(0, len(ids) - 1, chunk):
        part = ids[start : start + chunk + 1]
        logits, state = network(one_hot(part[None, :-1], network), state)  # (1, T, symbols)
        nats += F.cross_entropy(logits[0], part[1:], reduction="sum").item()
    return nats / math.log(2) / (len(ids) - 1)


@torch.no_grad()
def sample_ids(network: Recurrent, prompt: Tensor, count: int, *, temperature: float, seed: int) -> Tensor:
    """Hear a prompt (N,), N ≥ 1, then draw `count` characters, (count,): each is heard before the next is drawn."""
    network.eval()
    dice = torch.Generator().manual_seed(seed)
    ids, state = prompt, None
    for k in range(len(prompt) + count - 1):
        logits, state = network(one_hot(ids[k].view(1, 1), network), state)  # (1, 1, symbols)
        if k + 1 == len(ids):
            ids = torch.cat([ids, torch.multinomial((logits[0, 0] / temperature).softmax(-1), 1, generator=dice)])
    return ids[len(prompt) :]


def main(words: list[str] | None = None) -> None:
    """Read the options and run; what is wrong with the input is one line on stderr."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, metavar="FOLDER", help="default: the standard library")
    parser.add_argument("--suffix", default=".py", help="how the names of the text files end")
    parser.add_argument("--prompt", default="\n", help="what the sample goes on from")
    parser.add_argument("--cell", choices=CELLS, default="lstm")
    numbers = (
        ("max-chars", 1, 5_000_000, "most characters to train on"),
        ("hidden", 1, 384, "units of a layer"),
        ("layers", 1, 1, "layers"),
        ("streams", 1, 16, "streams of text read side by side"),
        ("bptt", 1, 64, "steps that the gradient runs back"),
        ("lr", 0, 3e-3, "learning rate at the start; it falls to 0 as half a cosine"),
        ("steps", 1, 10_000, "windows to train on"),
        ("minutes", 0, 0.0, "time to train for, instead of --steps; the result then hangs on the machine's speed"),
        ("seed", 0, 0, "of the order of files, the weights and the sample"),
        ("sample", 0, 400, "characters to sample"),
        ("temperature", 0.01, 0.8, "of the sample: at 1 as the network believes, below more cautious"),
    )
    for name, _, default, meaning in numbers:
        parser.add_argument(f"--{name}", type=type(default), default=default, help=f"{meaning} ({default})")
    args = parser.parse_args(words)
    for name, least, *_ in numbers:
        if not getattr(args, name.replace("-", "_")) >= least:
            parser.error(f"--{name} has to be {least} or more")
    try:
        run(args)
    except (InputError, OSError) as error:
        print(f"char_rnn: {error}", file=sys.stderr)
        sys.exit(InputError.exit_code)


def run(args: argparse.Namespace) -> None:
    """Train, judge beside the n-grams, and sample."""
    folder, skipped = (args.folder, set()) if args.folder else (Path(sysconfig.get_paths()["stdlib"]), SKIPPED)
    texts = read_texts(folder, args.suffix, args.max_chars, args.seed, skipped)
    symbols = find_symbols(texts[0])
    ids, judged = (encode(text, symbols) for text in texts)
    if len(judged) < 2:
        raise InputError(f"the files held out of {folder} have {len(judged)} characters; two at least are needed to judge by")
    torch.manual_seed(args.seed)
    network = Recurrent(len(symbols), len(symbols), cell=args.cell, hidden=args.hidden, layers=args.layers)
    print(f"{len(ids)} characters to train on, {len(judged)} held out ({(judged == 0).sum()} unknown), {len(symbols)} symbols")
    train_network(network, ids, **{k: getattr(args, k) for k in ("streams", "bptt", "lr", "steps", "minutes")})
    print(f"held out: {args.cell} of {args.hidden} units {bits_per_character(network, judged):.3f} bits/character", flush=True)
    texts = tuple("".join(symbols[k] for k in part.tolist()) for part in (ids, judged))  # with the unknown replaced
    for order, p in enumerate(ngram_probabilities(*texts, len(symbols))):
        bits = -sum(map(math.log2, p[1:])) / len(p[1:])
        print(f"held out: n-grams up to order {order} {bits:.3f} bits/character", flush=True)
    drawn = sample_ids(network, encode(args.prompt or "\n", symbols), args.sample, temperature=args.temperature, seed=args.seed)
    print(f"sample at temperature {args.temperature:g}:", args.prompt + "".join(symbols[k] for k in drawn.tolist()), sep="\n")


if __name__ == "__main__":
    main()
