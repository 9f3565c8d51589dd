"""While much is made that stays, the garbage collector looks up less often; afterwards it is as it was."""

import gc

import pytest

from nbcanvas.garbage import _Less, collect_less, collecting_less

USUAL = (700, 10, 10)


@pytest.fixture(autouse=True)
def usual(monkeypatch):
    monkeypatch.setattr(_Less, "wanted", set())  # a large run that an earlier test gave up still wants rare looks
    before = gc.get_threshold()
    gc.set_threshold(*USUAL)
    yield
    gc.set_threshold(*before)


def test_thresholds_are_raised_and_taken_back():
    with collecting_less():
        assert gc.get_threshold()[0] > USUAL[0]
    assert gc.get_threshold() == USUAL


@pytest.mark.parametrize("first", [0, 1])
def test_of_two_that_overlap_the_last_takes_it_back_whichever_it_is(first):
    restores = [collect_less(), collect_less()]
    restores[first]()
    restores[first]()  # once is enough: a second time says nothing for the other
    assert gc.get_threshold()[0] > USUAL[0]
    restores[1 - first]()
    assert gc.get_threshold() == USUAL


def test_what_somebody_else_set_stays():
    gc.set_threshold(100_000, 5, 5)
    with collecting_less():
        assert gc.get_threshold() == (100_000, 5, 5)
    assert gc.get_threshold() == (100_000, 5, 5)
    gc.set_threshold(*USUAL)
    with collecting_less():
        gc.set_threshold(1000, 7, 7)
    assert gc.get_threshold() == (1000, 7, 7)
