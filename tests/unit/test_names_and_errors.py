"""Names that people give, and the codes that scripts match on."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from comfygov import errors
from comfygov.errors import Code, GovError
from comfygov.model.names import canonical, group_of, id_from_source, is_node_id

HOSTILE_IDS = (
    *("", ".", "..", "-", "-x", "--upload-pack=x", "x-", "x.", "_x", ".x", "a/b", "a\\b", "../a", "a..b", "a b"),
    *("a\n", "\na", "a\0", "a\tb", "a:b", "a;rm", "$(x)", "`x`", "a*", "ä", "\uff11", "a\u202eb", "x" * 101),
    *("pack.disabled", "pack.DISABLED", "pack.git", "pack.lock", "pack.Lock", "pack.py"),
)
IDS = st.from_regex(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,20}[A-Za-z0-9])?", fullmatch=True).filter(is_node_id)


@pytest.mark.parametrize("text", HOSTILE_IDS)
def test_a_hostile_id_is_refused(text: str) -> None:
    assert not is_node_id(text)


@pytest.mark.parametrize(
    "text", ["a", "A1", "ComfyUI-GGUF", "comfyui_impact.pack", "was-node-suite-comfyui", "x" * 100]
)
def test_an_ordinary_id_is_taken(text: str) -> None:
    assert is_node_id(text)


@given(st.text(max_size=120))
def test_whatever_is_taken_is_one_plain_path_component(text: str) -> None:
    if is_node_id(text):
        assert PurePosixPath("/custom_nodes", text).parts == ("/", "custom_nodes", text)
        assert text.isascii()
        assert not text.startswith(("-", "."))


@given(IDS)
def test_the_group_of_an_id_is_a_name_that_uv_takes_as_it_is(node_id: str) -> None:
    group = group_of(node_id)
    assert re.fullmatch(r"node-[a-z0-9]([a-z0-9-]*[a-z0-9])?", group)
    assert "--" not in group
    assert canonical(group) == group


@given(IDS, IDS)
def test_two_ids_share_a_group_exactly_when_their_canonical_names_are_one(one: str, other: str) -> None:
    assert (group_of(one) == group_of(other)) == (canonical(one) == canonical(other))


@given(st.text(max_size=60))
def test_canonical_is_stable(text: str) -> None:
    assert canonical(canonical(text)) == canonical(text)


@given(IDS)
def test_an_id_survives_every_form_of_source(node_id: str) -> None:
    for form in (
        "https://host/owner/{}",
        "https://host/owner/{}.git",
        "https://host/owner/{}/",
        "git@host:owner/{}.git",
    ):
        assert id_from_source(form.format(node_id)) == node_id
    for form in ("git@host:{}.git", "/srv/git/{}", "../{}", "C:\\packs\\{}", "https://host/owner/{}.git/"):
        assert id_from_source(form.format(node_id)) == node_id


def test_every_code_has_a_text_of_its_own() -> None:
    texts = [code.text for code in Code]
    assert len(set(texts)) == len(texts)
    assert len(Code.__members__) == len(texts), "two members with one value are one member"
    assert all(re.fullmatch(r"[a-z]+(_[a-z]+)*", text) for text in texts)


def test_exit_codes_are_those_of_the_design() -> None:
    expected = {"DONE": 0, "REFUSED": 1, "USAGE": 2, "DRIFT": 3, "NO_SOLUTION": 4, "NETWORK": 5, "BUSY": 6}
    expected["INTERRUPTED"] = 130
    assert {name: getattr(errors, f"EXIT_{name}") for name in expected} == expected
    assert {code.exit_code for code in Code} == set(expected.values()) - {0}


@pytest.mark.parametrize(
    ("code", "exit_code"),
    [
        *((Code.USAGE, 2), (Code.NOT_FOUND, 2), (Code.REF_NOT_FOUND, 2), (Code.BAD_CONFIG, 2)),
        *((Code.NO_SOLUTION, 4), (Code.BAD_REQUIREMENTS, 4), (Code.NETWORK, 5), (Code.BUSY, 6)),
        *((Code.ENVIRONMENT_DAMAGED, 3), (Code.INTERRUPTED, 130), (Code.LOCAL_EDITS, 1)),
    ],
)
def test_a_code_ends_with_its_exit_code(code: Code, exit_code: int) -> None:
    error = GovError(code, "it happened", "do this", ("a", "b"))
    assert (error.exit_code, str(error), error.hint, error.details) == (exit_code, "it happened", "do this", ("a", "b"))
