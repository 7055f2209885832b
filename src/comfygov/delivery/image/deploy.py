"""What engines that already exist need to run an image: RunPod's serverless workers, Kubernetes with KEDA.

Fields: RunPod REST API v1 (docs.runpod.io, POST /templates and /endpoints); Kubernetes apps/v1 and v1; KEDA
keda.sh/v1alpha1 with its `metrics-api` trigger, which adds up what all pods of a Service say (keda.sh/docs).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from comfygov.model.image import USER_ID, WORK

HTTP_PORT = 8000
_GIGABYTE = 1_000_000_000
_RUNPOD_CUDA = {12: tuple(f"12.{minor}" for minor in range(8, -1, -1)), 13: ("13.0",)}
_START_SECONDS = 900
_STOP_SECONDS = 60


@dataclass(frozen=True)
class Wish:
    """One deployment. `cuda` and `rocm` are empty for a torch that needs none; `model_bytes` is what models outside
    of the image need; `workers` the most that there may be."""

    name: str
    image: str
    digest: str
    cuda: str
    model_bytes: int
    models_are_inside: bool
    workers: int
    namespace: str = "default"
    rocm: str = ""

    @property
    def label(self) -> str:
        """A name as Kubernetes wants one (RFC 1123)."""
        text = re.sub(r"[^a-z0-9]+", "-", f"comfy-{self.name}".lower())
        return text[:50].strip("-")

    @property
    def volume_gigabytes(self) -> int:
        """Room for the models of the lock, and as much again for the next version's."""
        return max(10, -(-2 * self.model_bytes // _GIGABYTE))


def runpod(wish: Wish) -> dict[str, dict[str, Any]]:
    """File name -> content: the bodies of the two requests that make an endpoint."""
    template = {
        "name": wish.label,
        "imageName": wish.image,
        "isServerless": True,
        "containerDiskInGb": 20,
        "dockerStartCmd": ["runpod"],
        "env": {},
        "readme": f"ComfyUI, version {wish.name}, {wish.digest}",
    }
    endpoint: dict[str, Any] = {
        "name": wish.label,
        "templateId": "ID_OF_THE_TEMPLATE",
        "computeType": "GPU",
        "gpuCount": 1,
        "workersMin": 0,
        "workersMax": wish.workers,
        "idleTimeout": 60,
        "executionTimeoutMs": 3_600_000,
        "scalerType": "QUEUE_DELAY",
        "scalerValue": 4,
        "flashboot": True,
    }
    allowed = _RUNPOD_CUDA.get(int(wish.cuda.partition(".")[0])) if wish.cuda else None
    if allowed:
        endpoint["allowedCudaVersions"] = list(allowed)
    if not wish.models_are_inside:
        endpoint["networkVolumeId"] = "ID_OF_THE_NETWORK_VOLUME"
    return {"template.json": template, "endpoint.json": endpoint}


def kubernetes(wish: Wish) -> dict[str, dict[str, Any]]:
    """File name -> object."""
    found = {"deployment.yaml": _deployment(wish), "service.yaml": _service(wish), "scaledobject.yaml": _scaled(wish)}
    return found if wish.models_are_inside else {"models.yaml": _claim(wish), **found}


def _metadata(wish: Wish, suffix: str = "") -> dict[str, Any]:
    labels = {"app.kubernetes.io/name": wish.label, "app.kubernetes.io/managed-by": "comfygov"}
    annotations = {"comfygov.io/version": wish.name, "comfygov.io/digest": wish.digest}
    return {"name": f"{wish.label}{suffix}", "namespace": wish.namespace, "labels": labels, "annotations": annotations}


def _deployment(wish: Wish) -> dict[str, Any]:
    selector = {"app.kubernetes.io/name": wish.label}
    pod = {
        "terminationGracePeriodSeconds": _STOP_SECONDS,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER_ID,
            "runAsGroup": 0,
            "fsGroup": 0,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [_container(wish)],
        "volumes": _volumes(wish),
    }
    metadata = {"labels": {**_metadata(wish)["labels"]}, "annotations": _metadata(wish)["annotations"]}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": _metadata(wish),
        "spec": {"selector": {"matchLabels": selector}, "template": {"metadata": metadata, "spec": pod}},
    }


def _container(wish: Wish) -> dict[str, Any]:
    mounts: list[dict[str, Any]] = [
        {"name": "work", "mountPath": WORK},
        {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108 (of the container)
        {"name": "shared-memory", "mountPath": "/dev/shm"},  # noqa: S108
    ]
    if not wish.models_are_inside:
        mounts.append({"name": "models", "mountPath": "/models", "readOnly": True})
    container: dict[str, Any] = {
        "name": "comfyui",
        "image": wish.image,
        "args": ["http"],
        "ports": [{"name": "http", "containerPort": HTTP_PORT}],
        "env": [{"name": "COMFYGOV_TOKEN", "valueFrom": {"secretKeyRef": _token(wish)}}],
        "securityContext": {
            "readOnlyRootFilesystem": True,
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
        },
        "startupProbe": _probe("/ready", 5, _START_SECONDS // 5),
        "readinessProbe": _probe("/ready", 5, 2),
        "livenessProbe": _probe("/health", 15, 4),
        "volumeMounts": mounts,
    }
    if wish.cuda or wish.rocm:
        container["resources"] = {"limits": {"nvidia.com/gpu" if wish.cuda else "amd.com/gpu": 1}}
    return container


def _token(wish: Wish) -> dict[str, Any]:
    return {"name": f"{wish.label}-token", "key": "token", "optional": True}


def _probe(path: str, period_seconds: int, failures: int) -> dict[str, Any]:
    asked = {"path": path, "port": "http"}
    return {"httpGet": asked, "periodSeconds": period_seconds, "timeoutSeconds": 10, "failureThreshold": failures}


def _volumes(wish: Wish) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = [
        {"name": "work", "emptyDir": {}},
        {"name": "tmp", "emptyDir": {}},
        {"name": "shared-memory", "emptyDir": {"medium": "Memory"}},
    ]
    if not wish.models_are_inside:
        claim = {"claimName": f"{wish.label}-models", "readOnly": True}
        found.append({"name": "models", "persistentVolumeClaim": claim})
    return found


def _service(wish: Wish) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": _metadata(wish),
        "spec": {
            "selector": {"app.kubernetes.io/name": wish.label},
            "ports": [{"name": "http", "port": HTTP_PORT, "targetPort": "http"}],
            "sessionAffinity": "ClientIP",  # a job's status is known to the worker that has it
        },
    }


def _claim(wish: Wish) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": _metadata(wish, "-models"),
        "spec": {
            "accessModes": ["ReadWriteMany"],
            "resources": {"requests": {"storage": f"{wish.volume_gigabytes}G"}},
        },
    }


def _scaled(wish: Wish) -> dict[str, Any]:
    """One more worker for each two jobs that wait, summed over all workers."""
    asked = {
        "url": f"http://{wish.label}.{wish.namespace}:{HTTP_PORT}/metrics",
        "format": "prometheus",
        "valueLocation": "comfygov_handler_jobs_waiting",
        "targetValue": "2",
        "aggregateFromKubeServiceEndpoints": "true",
        "aggregationType": "sum",
    }
    return {
        "apiVersion": "keda.sh/v1alpha1",
        "kind": "ScaledObject",
        "metadata": _metadata(wish),
        "spec": {
            "scaleTargetRef": {"name": wish.label},
            "minReplicaCount": 1,
            "maxReplicaCount": wish.workers,
            "cooldownPeriod": 300,
            "triggers": [{"type": "metrics-api", "metadata": asked}],
        },
    }
