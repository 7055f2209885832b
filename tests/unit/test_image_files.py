"""What an image's neighbours read: the bill of materials, and the files for RunPod and Kubernetes, by their schemas."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import cyclonedx
import fastjsonschema
import kubernetes_validate  # type: ignore[import-untyped]
import pytest
from hypothesis import given
from hypothesis import strategies as st

from comfygov.delivery.image import deploy, sbom
from comfygov.model.image import ImageRecord, TorchBuild
from comfygov.model.version import (
    LockedComfyUI,
    LockedModel,
    LockedNode,
    LockedPython,
    PatchedFile,
    VersionLock,
)

SUM = "a" * 64
RUNPOD_TEMPLATE = {"name": str, "imageName": str, "isServerless": bool, "containerDiskInGb": int}
RUNPOD_TEMPLATE |= {"dockerStartCmd": list, "env": dict, "readme": str}
RUNPOD_ENDPOINT = {"name": str, "templateId": str, "computeType": str, "gpuCount": int, "workersMin": int}
RUNPOD_ENDPOINT |= {"workersMax": int, "idleTimeout": int, "executionTimeoutMs": int, "scalerType": str}
RUNPOD_ENDPOINT |= {"scalerValue": int, "flashboot": bool, "allowedCudaVersions": list, "networkVolumeId": str}
DOCUMENT = {
    "packages": [
        {"name": "a", "version": "1", "wheels": [{"path": "wheels/a-1-py3-none-any.whl", "hashes": {"sha256": SUM}}]},
        {
            "name": "torch",
            "version": "2.9.0+cu128",
            "marker": "sys_platform == 'linux'",
            "wheels": [{"url": "https://e.org/torch-2.9.0%2Bcu128.whl", "hashes": {"sha256": SUM}}],
        },
        {"name": "torch", "version": "2.9.0+cu128", "wheels": []},
    ]
}
REQUIREMENTS = (
    f"# content x\nclick==8.5.1 \\\n    --hash=sha256:{SUM} \\\n    --hash=sha256:{'b' * 64}\ntomli==2 ; x \\\n"
)


@pytest.fixture(scope="module")
def check_sbom() -> Any:
    """The validator of CycloneDX 1.6, from the schemas that its Python library carries."""
    folder = Path(cyclonedx.__file__).parent / "schema" / "_res"

    def load(uri: str) -> Any:
        name = uri.rpartition("/")[2].replace(".SNAPSHOT", "").replace(".schema.json", ".SNAPSHOT.schema.json")
        return json.loads((folder / name).read_bytes())

    schema = json.loads((folder / "bom-1.6.SNAPSHOT.schema.json").read_bytes())
    return fastjsonschema.compile(schema, handlers={"http": load, "https": load}, use_default=False)


def lock_with(repo: str, source: str) -> VersionLock:
    edited = PatchedFile("x.py", SUM, content="")
    return VersionLock(
        schema_version=1,
        version_name="one",
        digest=f"sha256:{SUM}",
        comfyui=LockedComfyUI("https://github.com/comfyanonymous/ComfyUI", "c" * 40, "d" * 40, "v0.3", (edited,)),
        python=LockedPython("3.12.1", "==3.12.*", "linux-x86_64", (), (), (), "", ""),
        custom_nodes=(LockedNode("pack", repo, "e" * 40, "f" * 40, enabled=True, promoted=True),),
        models=(LockedModel("m", "loras/m odd.bin", f"sha256:{SUM}", 5, (source,)),),
    )


RECORD = ImageRecord(1, "one", f"sha256:{SUM}", "0.1", "base@sha256:x", "uv", "3.12", TorchBuild("2.9.0+cu128", "12.8"))


def test_the_bill_of_materials_names_everything_and_fits_the_schema(check_sbom: Any) -> None:
    text = sbom.render(lock_with("git@host.org:me/pack.git", "https://e.org/m"), RECORD, DOCUMENT, REQUIREMENTS)
    assert text == sbom.render(lock_with("git@host.org:me/pack.git", "https://e.org/m"), RECORD, DOCUMENT, REQUIREMENTS)
    document = json.loads(text)
    check_sbom(document)
    by_ref = {one["bom-ref"]: one for one in document["components"]}
    assert len(by_ref) == len(document["components"])
    torch = by_ref["environment/pkg:pypi/torch@2.9.0%2Bcu128"]
    assert torch["externalReferences"][0]["hashes"] == [{"alg": "SHA-256", "content": SUM}]
    assert {"handler/pkg:pypi/click@8.5.1", "handler/pkg:pypi/comfygov@0.1"} <= by_ref.keys()
    assert by_ref["code/ComfyUI"]["purl"] == f"pkg:github/comfyanonymous/comfyui@{'c' * 40}"
    assert by_ref["code/pack"]["externalReferences"][0]["url"] == "ssh://git@host.org/me/pack.git"
    assert by_ref["model/loras/m odd.bin"]["hashes"][0]["content"] == SUM


@given(st.text(max_size=40), st.text(max_size=40))
def test_no_address_of_a_lock_breaks_the_schema(check_sbom: Any, repo: str, source: str) -> None:
    text = sbom.render(lock_with(f"https://{repo}", f"s3://{source}"), RECORD, DOCUMENT, REQUIREMENTS)
    check_sbom(json.loads(text))


def wish(name: str = "studio_1.A", cuda: str = "12.8", *, inside: bool = False) -> deploy.Wish:
    return deploy.Wish(name, "r.example/comfy:1", f"sha256:{SUM}", cuda, 30_000_000_000, inside, 7)


@pytest.mark.parametrize("inside", [False, True])
def test_kubernetes_takes_the_files(inside: bool) -> None:
    found = deploy.kubernetes(wish(inside=inside))
    assert ("models.yaml" in found) is not inside
    for name, content in found.items():
        if name != "scaledobject.yaml":  # KEDA's own kind
            kubernetes_validate.validate(content, kubernetes_validate.latest_version(), strict=True)
    pod = found["deployment.yaml"]["spec"]["template"]
    labels = pod["metadata"]["labels"]
    assert found["deployment.yaml"]["spec"]["selector"]["matchLabels"].items() <= labels.items()
    assert found["service.yaml"]["spec"]["selector"].items() <= labels.items()
    container = pod["spec"]["containers"][0]
    assert {mount["name"] for mount in container["volumeMounts"]} == {one["name"] for one in pod["spec"]["volumes"]}
    assert container["resources"]["limits"] == {"nvidia.com/gpu": 1}
    amd = deploy.kubernetes(dataclasses.replace(wish(cuda=""), rocm="6.4"))["deployment.yaml"]["spec"]["template"]
    assert amd["spec"]["containers"][0]["resources"]["limits"] == {"amd.com/gpu": 1}
    if not inside:
        claim = pod["spec"]["volumes"][-1]["persistentVolumeClaim"]["claimName"]
        assert claim == found["models.yaml"]["metadata"]["name"]
        assert found["models.yaml"]["spec"]["resources"]["requests"]["storage"] == "60G"


def test_keda_scales_the_deployment_by_jobs_that_wait() -> None:
    found = deploy.kubernetes(wish())
    scaled = found["scaledobject.yaml"]["spec"]
    assert scaled["scaleTargetRef"]["name"] == found["deployment.yaml"]["metadata"]["name"]
    assert (scaled["minReplicaCount"], scaled["maxReplicaCount"]) == (1, 7)
    (trigger,) = scaled["triggers"]
    assert all(isinstance(value, str) for value in trigger["metadata"].values())
    port = found["service.yaml"]["spec"]["ports"][0]["port"]
    assert trigger["metadata"]["url"] == f"http://comfy-studio-1-a.default:{port}/metrics"
    metrics = Path(deploy.__file__).parent.parent.joinpath("metrics.py").read_text()
    prefix, _, name = trigger["metadata"]["valueLocation"].partition("_jobs_")
    assert f'_PREFIX = "{prefix}"' in metrics
    assert f'"jobs_{name}"' in metrics


@pytest.mark.parametrize(("cuda", "allowed"), [("12.8", "12.8"), ("13.0", "13.0"), ("", None)])
def test_runpod_takes_the_files(cuda: str, allowed: str | None) -> None:
    found = deploy.runpod(wish(cuda=cuda))
    for name, fields in (("template.json", RUNPOD_TEMPLATE), ("endpoint.json", RUNPOD_ENDPOINT)):
        for field, value in found[name].items():
            assert type(value) is fields[field], field
    assert found["endpoint.json"].get("allowedCudaVersions", [None])[0] == allowed
    assert "networkVolumeId" not in deploy.runpod(wish(inside=True))["endpoint.json"]


@given(st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", fullmatch=True))
def test_every_version_has_a_name_for_kubernetes(name: str) -> None:
    label = wish(name).label
    assert len(label) <= 50
    assert label.strip("-") == label
    assert set(label) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")
