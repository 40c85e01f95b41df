"""Several faces: background does not count, and the one that is meant is followed, whoever comes and goes."""

from __future__ import annotations

import numpy as np
import pytest

from lipwright.data.faces import WHICH, choose, distinct, find_people, height_px, in_front


def face(x: float, height: float = 100, y: float = 200) -> np.ndarray:
    """A face's points: all in one place, but hairline and chin."""
    points = np.zeros((478, 3), np.float32)
    points[:, :2] = x, y
    points[10, 1], points[152, 1] = y - height / 2, y + height / 2
    return points


def faces(*given: tuple[float, float]) -> np.ndarray:
    return np.array([face(*g) for g in given], np.float32).reshape(-1, 478, 3)


def test_heights_run_from_hairline_to_chin() -> None:
    np.testing.assert_allclose(height_px(faces((100, 80), (300, 120))), [80, 120])


def test_a_far_smaller_face_is_background() -> None:
    assert len(in_front(faces((100, 100), (300, 60), (500, 40)))) == 2
    assert len(in_front(faces((100, 100)))) == 1
    assert len(in_front(faces())) == 0


def test_a_face_that_is_found_twice_is_one() -> None:
    seen = faces((100, 100), (300, 80), (120, 95), (301, 82), (600, 40))
    assert distinct(seen).tolist() == [0, 1, 4]
    assert distinct(faces()).tolist() == []


def test_people_are_followed_in_whatever_order_faces_come() -> None:
    rng = np.random.default_rng(0)
    orders = [rng.permutation(2) for _ in range(50)]
    # They come closer to each other, and one of them grows.
    shot = [faces(*[((100.0 + k, 100.0), (400.0 - k, 100.0 + k))[i] for i in order]) for k, order in enumerate(orders)]
    first, second = sorted(find_people(shot), key=lambda p: p.places[0][0])
    assert first.frames == {k: int(np.flatnonzero(order == 0)[0]) for k, order in enumerate(orders)}
    assert second.frames == {k: int(np.flatnonzero(order == 1)[0]) for k, order in enumerate(orders)}
    np.testing.assert_allclose(second.heights_px, 100 + np.arange(50), rtol=1e-5)


def test_who_is_lost_is_the_same_one_again_nearby() -> None:
    both, one = faces((100, 100), (500, 100)), faces((500, 100))
    first, second = find_people([both, both, one, faces(), one, both])
    assert list(first.frames) == [0, 1, 5]
    assert list(second.frames) == [0, 1, 2, 4, 5]


@pytest.mark.parametrize("missing", [0, 1, 2])
@pytest.mark.parametrize(("which", "x"), [("largest", 300), ("left", 100), ("right", 500), ("track", 300)])
def test_the_one_who_is_meant_is_chosen_whoever_is_found_first(which: str, x: float, missing: int) -> None:
    everybody = [(500, 90), (100, 80), (300, 110), (20, 30)]  # the last one is background
    first = [person for k, person in enumerate(everybody) if k != missing]
    person = choose(find_people([faces(*first), *[faces(*everybody)] * 5]), which)
    assert person is not None
    assert person.places[0][0] == pytest.approx(x, abs=1)


def test_who_comes_back_somewhat_further_away_is_the_same_one() -> None:
    here, there, other = (100, 100), (220, 100), (500, 90)
    nobody = [faces(other)] * 12
    first, _ = find_people([*[faces(here, other)] * 10, *nobody, *[faces(there, other)] * 20])
    assert len(first.frames) == 30
    # Without a loss, nobody jumps so far.
    assert len(find_people([*[faces(here, other)] * 10, *[faces(there, other)] * 20])) == 3


def test_who_is_seen_for_longer_is_larger() -> None:
    shot = [*[faces((300, 100))] * 60, *[faces(), faces((100, 120))], *[faces((100, 120))] * 20]
    person = choose(find_people(shot), "largest")
    assert person is not None
    assert len(person.frames) == 60


def test_a_passer_by_is_never_meant() -> None:
    shot = [faces((300, 100))] * 20 + [faces((50, 150), (300, 100))] * 3
    for which in WHICH:
        person = choose(find_people(shot), which)
        assert person is not None
        assert len(person.frames) == 23


@pytest.mark.parametrize(("which", "x"), [("largest", 100), ("left", 100), ("right", 600), ("track", 310)])
def test_the_next_shot_is_another_choice_but_for_track(which: str, x: float) -> None:
    person = choose(find_people([faces((310, 100), (100, 120), (600, 100))]), which, np.array([300.0, 200.0]))
    assert person is not None
    assert person.places[0][0] == x


def test_nobody_is_nobody() -> None:
    assert choose(find_people([faces()] * 3), "left") is None
    assert choose([], "track") is None
