"""What a pack imports and never declared."""

from __future__ import annotations

from comfygov.trial.reading import Import, Reading
from comfygov.trial.undeclared import undeclared

OWNERS = {"numpy": {"numpy"}, "scipy": {"scipy"}, "cv2": {"opencv-python"}, "google": {"protobuf", "google-auth"}}


def lines(*imports: Import, declared: tuple[str, ...] = ("NumPy",), names: tuple[str, ...] = ()) -> list[str]:
    reading = Reading(imports=imports, names=frozenset(names))
    return list(undeclared(reading, OWNERS, declared, {"scipy": {"scikit-image", "librosa"}}, ["comfy", "nodes"]))


def test_what_is_declared_or_its_own_is_fine() -> None:
    given = ("numpy.linalg", "os", "comfy.utils", "nodes", "helper", "custom_nodes.other")
    assert lines(*(Import(module, "a.py", 1, False) for module in given), names=("helper",)) == []


def test_a_hidden_transitive_import_names_file_line_and_who_brings_it() -> None:
    found = lines(Import("scipy.ndimage", "b.py", 9, True), Import("scipy", "a.py", 3, False))
    assert found == ["a.py:3: imports scipy (scipy), which is here because librosa, scikit-image needs it"]


def test_a_module_may_have_several_owners() -> None:
    assert lines(Import("google.protobuf", "a.py", 1, False), declared=("protobuf",)) == []
    assert "google-auth" in lines(Import("google.auth", "a.py", 1, False))[0]


def test_what_is_not_there_counts_where_it_is_needed() -> None:
    assert lines(Import("missing", "a.py", 4, True)) == []
    assert lines(Import("missing", "a.py", 4, False)) == [
        "a.py:4: imports missing, which nothing that is installed provides"
    ]
