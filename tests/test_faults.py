"""The faults that `make faults` plants are there to be planted: in every room, at places that the code still has."""

from faults import faults
from places import PACKAGE, TESTS


def test_each_fault_has_one_place_and_tests_that_are_there() -> None:
    for fault in faults():
        text = (PACKAGE / "mnemoscope" / fault["file"]).read_text(encoding="utf-8")
        assert text.count(fault["old"]) == 1 and fault["old"] != fault["new"], fault
        assert all((TESTS / name).exists() for name in fault["tests"].split()), fault


def test_there_are_sixty_of_them_over_the_rooms() -> None:
    rooms = {fault["file"].partition("/")[0] for fault in faults()}
    assert len(faults()) >= 60 and len(rooms) >= 35
