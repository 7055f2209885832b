"""Each gate, each of its verdicts."""

from __future__ import annotations

from typing import Any

import pytest

from comfygov.model.state import Baseline, PackHealth, Plugin, Registry
from comfygov.model.tx import GATES, Difference, Gate, PackageChange, PackageVersion
from comfygov.trial.gates import Evidence, blocking, broken, gone_from_comfyui, judge

GOOD = PackHealth("good", loaded=True, classes=("A", "B"))
TRIED = PackHealth("tried", loaded=True, classes=("T",))
BEFORE = Baseline(core_classes=("K", "L"), core_failures=("nodes_audio.py",), packs=(GOOD,), boot_seconds=1)
NOW = Baseline(core_classes=("K", "L"), core_failures=("nodes_audio.py",), packs=(GOOD, TRIED), boot_seconds=2)
SOME = Difference((PackageVersion("numpy", "2"),), (), (PackageChange("torch", "2.10", "2.11"),))


def plugin(name: str, *, enabled: bool = True) -> Plugin:
    return Plugin(name, f"https://host/{name}", "c", "t", f"node-{name}", enabled=enabled, promoted=True)


REGISTRY = Registry((plugin("good"), plugin("off", enabled=False)))


def gates(**changes: Any) -> dict[str, Gate]:
    evidence: dict[str, Any] = {
        "packs": (("tried", "https://host/Tried"),),
        "moves_comfyui": False,
        "torch_misfit": None,
        "packages": Difference(),
        "core_impact": Difference(),
        "baseline": BEFORE,
        "registry": REGISTRY,
        "deny": (),
        "health": NOW,
    }
    return {gate.name: gate for gate in judge(Evidence(**{**evidence, **changes}))}


def verdicts(**changes: Any) -> dict[str, str]:
    return {name: gate.verdict for name, gate in gates(**changes).items() if gate.verdict != "pass"}


def test_a_good_trial_passes_every_gate() -> None:
    assert verdicts() == {}
    assert list(gates()) == [
        *("deny_list", "static_findings", "declared_requirements"),
        *("declared_fit", "resolves", "core_packages", "torch_family", "boots", "pack_loads"),
        *("nothing_broken", "runtime_installs"),
    ]


@pytest.mark.parametrize("entry", ["tried", "Tried", "TRIED", "https://host/Tried", "https://HOST/tried", "NumPy"])
def test_what_is_on_the_deny_list_fails(entry: str) -> None:
    gate = gates(deny=("else", entry), packages=SOME)["deny_list"]
    assert (gate.verdict, gate.evidence) == ("fail", (entry,))


@pytest.mark.parametrize(
    ("named", "versions", "deny", "words"),
    [
        (("x", "https://host/AppleBotzz/x"), {}, (), "steals passwords"),
        (("comfyui-llmvision", "https://host/a/b"), {}, (), "steals passwords"),
        (("x", "git@host:y/ComfyUI_LLMVISION.git"), {}, (), "steals passwords"),
        (("x", "y"), {"ultralytics": "8.3.41"}, (), "ultralytics 8.3.41"),
        (("x", "y"), {"litellm": "1.82.8"}, (), "litellm 1.82.8"),
        (("x", "y"), {"some-thing": "1.5"}, ("Some_Thing>=1.4, <2",), "Some_Thing>=1.4, <2"),
    ],
)
def test_known_harm_is_denied(
    named: tuple[str, str], versions: dict[str, str], deny: tuple[str, ...], words: str
) -> None:
    gate = gates(packs=(named,), versions=versions, deny=deny)["deny_list"]
    assert gate.verdict == "fail"
    assert words in gate.evidence[0]


def test_other_releases_are_not_denied() -> None:
    versions = {"ultralytics": "8.3.40", "some-thing": "2.0"}
    assert verdicts(versions=versions, deny=("some-thing<2",)) == {}


def test_the_policy_says_what_blocks() -> None:
    assert gates(findings=("nodes.py:1: x",))["static_findings"].verdict == "warn"
    harder = gates(findings=("nodes.py:1: x",), policy={"static_findings": "fail", "boots": "fail"})
    assert (harder["static_findings"].verdict, harder["boots"].verdict) == ("fail", "pass")
    assert "[policy.gates]" in harder["static_findings"].reason
    softer = gates(health=None, policy={"boots": "warn", "pack_loads": "fail"})
    assert (softer["boots"].verdict, softer["pack_loads"].verdict) == ("warn", "skip")


def test_every_gate_has_a_name_that_settings_know() -> None:
    assert set(gates()) <= set(GATES)


def test_what_is_not_added_is_not_denied() -> None:
    assert verdicts(deny=("numpy", "trie", "https://host"), packages=Difference((), SOME.added, ())) == {}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"core_impact": SOME}, {"core_packages": "warn"}),
        ({"torch_misfit": ("they do not fit", ("torch==2.11.*",))}, {"torch_family": "fail"}),
        ({"install_scripts": {"tried": (1, ("last words",))}}, {"install_script": "fail"}),
        ({"install_scripts": {"tried": (0, ())}}, {}),
        ({"health": None, "boot_error": "it ended"}, {"boots": "fail", "pack_loads": "skip", "nothing_broken": "skip"}),
        ({"environment_changes": SOME}, {"runtime_installs": "fail"}),
        ({"smoke": [Gate("smoke w", "fail", "no"), Gate("smoke c", "pass", "")]}, {"smoke w": "fail"}),
        ({"health": BEFORE}, {"pack_loads": "fail"}),
    ],
)
def test_each_kind_of_evidence_has_its_verdict(changes: dict[str, Any], expected: dict[str, str]) -> None:
    assert verdicts(**changes) == expected
    found = tuple(gates(**changes).values())
    assert [gate.name for gate in blocking(found)] == [name for name, verdict in expected.items() if verdict == "fail"]


def test_the_evidence_is_shown() -> None:
    assert gates(core_impact=SOME)["core_packages"].evidence == ("+ numpy 2", "~ torch 2.10 -> 2.11")
    assert gates(torch_misfit=("words", ("pin",)))["torch_family"].evidence == ("pin",)
    assert gates(install_scripts={"tried": (7, ("last",))})["install_script"].evidence == ("last",)
    assert gates(health=None, boot_error="it ended", boot_log=("l",))["boots"].reason == "it ended"


@pytest.mark.parametrize(
    ("pack", "verdict", "words"),
    [
        (TRIED, "pass", "it registers 1 node class"),
        (PackHealth("tried", loaded=True), "pass", "web-only"),
        (PackHealth("tried", loaded=False, reason="boom"), "fail", "does not import: boom"),
    ],
)
def test_the_pack_on_trial_must_load(pack: PackHealth, verdict: str, words: str) -> None:
    gate = gates(health=Baseline(packs=(pack, GOOD), core_classes=("K", "L")))["pack_loads"]
    assert gate.verdict == verdict
    assert words in gate.reason


def test_a_missing_module_is_named() -> None:
    pack = PackHealth("tried", loaded=False, reason="No module named 'segno.x'")
    assert "`segno.x`" in gates(health=Baseline(packs=(pack,)))["pack_loads"].evidence[0]


def lines(before: Baseline, now: Baseline, changed: str = "tried", registry: Registry = REGISTRY) -> list[str]:
    return list(broken(before, now, registry, {changed}))


def test_classes_that_are_gone_are_broken() -> None:
    now = Baseline(core_classes=("K",), packs=(PackHealth("good", loaded=True, classes=("A", "New")),))
    assert lines(BEFORE, now) == ["good: class B is gone"]
    assert list(gone_from_comfyui(BEFORE, now)) == ["ComfyUI's own class L is gone"]
    assert gates(health=now)["nothing_broken"].evidence == ("ComfyUI's own class L is gone", "good: class B is gone")
    updated = gates(health=now, moves_comfyui=True)
    assert (updated["comfyui_classes"].verdict, updated["nothing_broken"].evidence) == (
        "warn",
        ("good: class B is gone",),
    )


def test_a_core_module_that_does_not_import_any_more_is_broken_and_an_old_failure_is_not() -> None:
    now = Baseline(core_classes=("K", "L"), core_failures=("nodes_audio.py", "nodes_video.py"), packs=(GOOD,))
    assert lines(BEFORE, now) == ["ComfyUI's own nodes_video.py does not import any more"]


def test_a_pack_that_is_gone_or_fails_is_broken() -> None:
    assert lines(BEFORE, Baseline(core_classes=("K", "L"))) == ["good does not load any more: ComfyUI does not list it"]
    failed = Baseline(core_classes=("K", "L"), packs=(PackHealth("good", loaded=False, reason="boom"),))
    assert lines(BEFORE, failed) == ["good does not load any more: boom"]


def test_what_was_broken_disabled_removed_or_is_changed_itself_does_not_count() -> None:
    before = Baseline(
        packs=(
            *(PackHealth("off", loaded=True, classes=("O",)), PackHealth("removed", loaded=True, classes=("R",))),
            *(PackHealth("good", loaded=False, reason="old"), PackHealth("tried", loaded=True, classes=("Old",))),
        )
    )
    assert lines(before, Baseline(), registry=REGISTRY.with_plugin(plugin("tried"))) == []


def test_what_is_broken_fails_its_gate() -> None:
    gate = gates(health=Baseline(core_classes=("K", "L"), packs=(TRIED,)))["nothing_broken"]
    assert (gate.verdict, len(gate.evidence)) == ("fail", 1)
