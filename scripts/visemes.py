"""Judge the visemes of exports where the phones are known, and on real videos: the tables of `docs/formats.md`,
"Visemes", and of `docs/streaming.md`.

    python scripts/visemes.py [--videos VIDEO...]

Speech is synthesized with the time of every phone: sentences that the base model has not heard, by flite's recorded voices
(which it knows), and by eSpeak NG in accents that it does not. Phones become visemes by the published tables. Prints JSON, a
row a line. Needs the extra ``demo`` and flite (Debian: ``apt install flite``).
"""

from __future__ import annotations

import argparse
import json
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lipwright.data import flite
from lipwright.data.articulation import CLASSES, LEAD_S, Lips, articulate
from lipwright.data.audio import SAMPLE_RATE_HZ, read_speech
from lipwright.data.features import STEP_HZ, FeatureSettings, compute_features, frame_energy_db
from lipwright.data.landmarks import face_track
from lipwright.data.media import probe
from lipwright.data.mouth import MouthTrack, Speaker, aperture, measure_speaker, track_of, width
from lipwright.data.speech import SILENCE, Phone, synthesize
from lipwright.data.talker import Talker, astronaut
from lipwright.pipeline.predict import load_model, predict_mouth
from lipwright.pipeline.visemes import FAVOUR, HOLD_S, OCULUS, RHUBARB, HeldVisemes, judge_sounds, tell_sounds

TEXT = """
A brave young judge chewed thick bread by the old bridge. My mother may buy five big blue boats before noon. Why would the
queen hide her ring in that wooden box? The fox jumps over a lazy dog, and nobody moves a muscle. Zebras use narrow roads when
very cold winds blow from the north. Please show us how you measure the pressure. Bob will pop up above the open bay by half
past one. We saw three fish, four frogs and a heavy yellow vase. Thirty-nine thieves thought that they thrilled the throne. Put
the good sugar in the cup, then look at the cook. Our loyal boys enjoy noisy toys. Early birds heard the first words of the
nurse. Go home slowly, over the snow. She sells shells, and the children watch. He laughed at half of the class.
"""
UNHEARD = (("gmw/en-GB-x-gbcwmd", 150), ("gmw/en-US-nyc", 170), ("gmw/en-US-nyc+grandma", 130), ("gmw/en-GB-x-gbcwmd+f2", 160))

_OCULUS = {
    "PP": "p b m", "FF": "f v", "TH": "θ ð", "DD": "t d ɾ", "kk": "k ɡ ŋ", "CH": "ʃ ʒ", "SS": "s z", "nn": "n l ɫ",
    "RR": "r ɹ ɜ ɚ", "aa": "a ɑ æ ʌ ɐ", "E": "ɛ e ə", "ih": "ɪ i ᵻ j", "oh": "o ɔ ɒ", "ou": "u ʊ w",
}  # fmt: skip
_RHUBARB = {
    "A": "p b m", "G": "f v", "BF": "t d ɾ θ ð s z ʃ ʒ tʃ dʒ", "BCEF": "ŋ", "BCEFH": "k ɡ", "BCFH": "n", "BEFH": "l ɫ",
    "BEF": "ɹ", "BCF": "j", "F": "w u ʊ", "E": "ɔ ɜ o", "D": "ɑ a ɒ", "B": "i ɪ ᵻ", "C": "ɛ e ʌ æ", "BC": "ə ɐ", "BCE": "ɚ",
    "C B": "eɪ ei əɪ", "CD B": "aɪ", "E F": "oʊ əʊ əu ʌʊ", "CD E": "aʊ æʊ", "E B": "ɔɪ oɪ",
}  # fmt: skip
"""What Rhubarb's rules let be shown, part by part of a phone."""
OPEN_SETS = 3
"""Phones that more mouths than this are right for say nothing."""

MATCH_S = 0.15


@dataclass(frozen=True)
class Utterance:
    """Speech with its phones, and what is made of it."""

    samples: np.ndarray
    phones: list[Phone]
    sounds: np.ndarray
    predicted: MouthTrack
    rule: MouthTrack


def _listed(table: dict[str, str]) -> dict[str, list[str]]:
    return {phone: shown.split() for shown, phones in table.items() for phone in phones.split()}


def shown_of(phone: Phone, table: dict[str, list[str]], silent: str) -> list[str]:
    """Return what a phone shows, part by part; nothing where the table does not say."""
    if phone.name == SILENCE:
        return [silent]
    if phone.name in ("tʃ", "dʒ") and phone.name not in table:
        return ["CH"]
    if (name := phone.name.rstrip("ː")) in table:
        return table[name]
    parts = [table[letter] for letter in unicodedata.normalize("NFD", phone.name) if letter in table]
    return [part for shown in parts for part in shown]


def truth_of(phones: Sequence[Phone], table: dict[str, list[str]], silent: str, steps: int) -> np.ndarray:
    """Return what is right at every step, (T,) of text; empty where that is not known."""
    out = np.full(steps, "", "U8")
    for phone in phones:
        shown = shown_of(phone, table, silent)
        edges = np.linspace(phone.start_s, phone.end_s, len(shown) + 1)
        for name, start, end in zip(shown, edges, edges[1:], strict=False):
            out[round(start * STEP_HZ) : round(end * STEP_HZ)] = name
    return out


def utter(say: Callable[[str], tuple[np.ndarray, int, Sequence[Phone]]], lips: Lips) -> Utterance:
    """Let a voice read the text."""
    import soxr

    parts, phones, start_s = [], list[Phone](), 0.0
    for sentence in " ".join(TEXT.split()).replace("?", ".").split(". "):
        samples, rate_hz, own = say(sentence.rstrip(".") + ".")
        phones += [Phone(p.name, start_s + p.start_s, start_s + p.end_s, p.stress) for p in own]
        start_s = phones[-1].end_s
        parts.append(samples)
    samples = soxr.resample(np.concatenate(parts), rate_hz, SAMPLE_RATE_HZ).astype(np.float32)
    model = load_model()
    steps = len(compute_features(samples))
    xyz = lips.points(articulate(phones, np.arange(steps) / STEP_HZ))
    rule = MouthTrack(xyz, np.ones(steps, bool), measure_speaker(xyz))
    predicted = predict_mouth(model, samples, Speaker(model.neutral.numpy(), model.config.scale))
    return Utterance(samples, phones, tell_sounds(samples, steps), predicted, rule)


def noisy(mouth: MouthTrack, share: float, seed: int) -> MouthTrack:
    """Return a mouth whose aperture and width wander by a share of its range, as a tracker's do."""
    assert mouth.speaker.scale is not None
    rng, kernel = np.random.default_rng(seed), np.hanning(15)
    xyz = np.array(mouth.xyz, np.float32)
    wander = [np.convolve(rng.normal(0, 1, len(xyz) + 14), kernel, "valid") / np.linalg.norm(kernel) for _ in range(2)]
    middle = xyz.mean(1, keepdims=True)
    for axis, measure, off in ((1, aperture, wander[0]), (0, width, wander[1])):
        now = measure(xyz)
        wanted = np.maximum(now + share * mouth.speaker.scale * off, 0)
        factor = (wanted / np.maximum(now, 1e-3)).clip(0, 20)
        xyz[..., axis] = middle[..., axis] + (xyz[..., axis] - middle[..., axis]) * factor[:, None]
    return MouthTrack(xyz, mouth.valid, mouth.speaker)


def loudness(utterance: Utterance, levels: Sequence[str]) -> np.ndarray:
    """Return what loudness alone would show: a silent, a slightly open, an open and a wide mouth."""
    level = frame_energy_db(utterance.samples, FeatureSettings())
    above = level - np.percentile(level, 95)
    return np.array(levels)[np.digitize(above, (-30, -18, -8))]


def judge(shown: Sequence[np.ndarray], truths: Sequence[np.ndarray]) -> dict[str, float]:
    """Return the share of steps that are right, the timing of cues, and how often they change."""
    right, off_ms, found, starts, cues, short = [], [], 0, 0, [], []
    for own, truth in zip(shown, truths, strict=True):
        says = (truth != "") & (np.char.str_len(truth) <= OPEN_SETS)
        right += [
            o in t if len(t) <= OPEN_SETS and t.isupper() else o == t for o, t in zip(own[says], truth[says], strict=True)
        ]
        changes = np.flatnonzero(own[1:] != own[:-1]) + 1
        cues.append(STEP_HZ * len(changes) / len(own))
        short.append((np.diff([0, *changes, len(own)]) < 6).mean())
        for k in np.flatnonzero(truth[1:] != truth[:-1]) + 1:
            if truth[k] in ("", "sil", "X") or len(truth[k]) > 2:
                continue
            starts += 1
            near = [c - k for c in changes if own[c] == truth[k] and abs(c - k) <= MATCH_S * STEP_HZ]
            if near:
                found += 1
                off_ms.append(1000 / STEP_HZ * min(near, key=abs))
    return {
        "right": round(float(np.mean(right)), 3),
        "found": round(found / max(starts, 1), 3),
        "off_ms": round(float(np.median(np.abs(off_ms))), 1) if off_ms else float("nan"),
        "cues_per_s": round(float(np.mean(cues)), 1),
        "shorter_than_60_ms": round(float(np.mean(short)), 3),
    }


def closures(shown: Sequence[np.ndarray], utterances: Sequence[Utterance]) -> dict[str, float]:
    """Return the share of p, b and m at which, or within 50 ms of which, lips are shown closed; and closures shown for each."""
    met, made = [], 0
    for own, utterance in zip(shown, utterances, strict=True):
        closed = own == "A"
        made += int(closed[0]) + np.count_nonzero(closed[1:] & ~closed[:-1])
        for phone in utterance.phones:
            if phone.name in "pbm":
                start, end = (round(s * STEP_HZ) for s in (phone.start_s - 0.05, phone.end_s + 0.05))
                met.append(closed[max(start, 0) : end].any())
    return {"lips_met": round(float(np.mean(met)), 3), "closures_shown": round(made / len(met), 2)}


def likeliest(sounds: np.ndarray) -> np.ndarray:
    """Return the names of the Oculus visemes that weigh most, step by step."""
    return np.array(OCULUS.names)[OCULUS.weigh(sounds).argmax(1)]


def held(sounds: np.ndarray, steps: int, favour: float = FAVOUR) -> np.ndarray:
    """Return the names of the Rhubarb mouths that are shown."""
    return np.array(RHUBARB.names)[RHUBARB.choose(sounds, steps, favour)]


def chosen_live(sounds: np.ndarray, later_steps: int) -> np.ndarray:
    """Return the names of the Rhubarb mouths that are shown where each is chosen when so many steps after it are known."""
    live = HeldVisemes(len(RHUBARB.names), round(HOLD_S * STEP_HZ), later_steps)
    return np.array(RHUBARB.names)[np.concatenate([live.push(RHUBARB.favoured(sounds)), live.finish()])]


def judge_video(path: Path) -> dict[str, object]:
    """Return how a real video's closed and open mouths are shown, by its sound alone and with its mouth."""
    media = probe(path)
    mouth = track_of(face_track(media))
    sounds = tell_sounds(read_speech(media), len(mouth.valid))
    assert mouth.speaker.scale is not None
    openness = (mouth.measure(aperture) - aperture(mouth.speaker.neutral)) / mouth.speaker.scale
    openness = np.roll(openness, round(LEAD_S * STEP_HZ))  # what is shown is in time with the sound
    speaks = mouth.valid & (sounds[:, [CLASSES.index("rest"), CLASSES.index("parted")]].sum(1) < 0.5)
    row: dict[str, object] = {"video": path.stem}
    for name, own in (("sound", sounds), ("sound and mouth", judge_sounds(sounds, mouth))):
        shown = held(own, round(HOLD_S * STEP_HZ))
        closed, wide = np.isin(shown, ["A", "X"]), np.isin(shown, ["C", "D", "E", "H"])
        row[name] = {
            "closed shown closed": round(float(closed[speaks & (openness < 0.15)].mean()), 3),
            "open shown closed": round(float(closed[speaks & (openness > 0.5)].mean()), 3),
            "open shown open": round(float(wide[speaks & (openness > 0.9)].mean()), 3),
            "cues_per_s": round(STEP_HZ * float((shown[1:] != shown[:-1]).mean()), 1),
        }
    return row


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", nargs="*", default=[], type=Path)
    args = parser.parse_args()
    for path in args.videos:
        print(json.dumps(judge_video(path)), flush=True)

    def of_flite(voice: str) -> Callable[[str], tuple[np.ndarray, int, Sequence[Phone]]]:
        return lambda text: (lambda s: (s.samples, s.rate_hz, s.phones))(flite.synthesize(text, voice=voice))

    def of_espeak(voice: str, rate_wpm: int) -> Callable[[str], tuple[np.ndarray, int, Sequence[Phone]]]:
        return lambda text: (lambda s: (s.samples, s.rate_hz, s.phones))(synthesize(text, voice=voice, rate_wpm=rate_wpm))

    lips = Talker.from_photo(astronaut()).lips
    readers = {"flite": [of_flite(v) for v in flite.VOICES], "espeak": [of_espeak(*v) for v in UNHEARD]}
    for group, says in readers.items():
        utterances = [utter(say, lips) for say in says]
        steps = [len(u.sounds) for u in utterances]
        truths = [truth_of(u.phones, _listed(_OCULUS), "sil", n) for u, n in zip(utterances, steps, strict=True)]
        names, counts = np.unique(np.concatenate(truths), return_counts=True)
        often = names[names != ""][counts[names != ""].argmax()]
        ways: dict[str, Callable[[Utterance], np.ndarray]] = {
            "always the most frequent": lambda u, often=often: np.full(len(u.sounds), often),  # type: ignore[misc]
            "loudness": lambda u: loudness(u, ("sil", "DD", "E", "aa")),
            "predicted mouth": lambda u: likeliest(judge_sounds(None, u.predicted)),
            "sound": lambda u: likeliest(u.sounds),
            "sound and predicted mouth": lambda u: likeliest(judge_sounds(u.sounds, u.predicted)),
            "rule's mouth": lambda u: likeliest(judge_sounds(None, u.rule)),
            "sound and rule's mouth": lambda u: likeliest(judge_sounds(u.sounds, u.rule)),
        }
        for share in (0.15, 0.3):
            ways[f"sound and rule's mouth, noise {share}"] = lambda u, share=share: likeliest(  # type: ignore[misc]
                judge_sounds(u.sounds, noisy(u.rule, share, 0))
            )
        for way, show in ways.items():
            print(json.dumps({"voices": group, "set": "oculus", "way": way} | judge([show(u) for u in utterances], truths)))
        truths = [truth_of(u.phones, _listed(_RHUBARB), "X", n) for u, n in zip(utterances, steps, strict=True)]
        for way, shown in {
            "always B": [np.full(n, "B") for n in steps],
            "loudness": [loudness(u, ("X", "B", "C", "D")) for u in utterances],
            **{
                f"sound, held {10 * hold} ms, closed lips x{favour}": [held(u.sounds, hold, favour) for u in utterances]
                for favour, hold in ((1, 1), (1, 6), (2, 1), (2, 4), (2, 6), (2, 8), (2, 10), (4, 6))
            },
        }.items():
            row = judge(shown, truths) | closures(shown, utterances)
            print(json.dumps({"voices": group, "set": "rhubarb", "way": way} | row), flush=True)
        for later in (0, 1, 2, 3, 4, 6, 10, 20, 40):
            shown = [chosen_live(u.sounds, later) for u in utterances]
            same = np.mean(np.concatenate([own == held(u.sounds, 6) for own, u in zip(shown, utterances, strict=True)]))
            row = {"as_offline": round(float(same), 3)} | judge(shown, truths) | closures(shown, utterances)
            print(json.dumps({"voices": group, "set": "rhubarb", "way": f"live, {10 * later} ms later"} | row), flush=True)


if __name__ == "__main__":
    main()
