"""What clients send is judged whole: any JSON is a job, or a reason why it is none."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from comfygov.delivery import inputs, outputs, refusals, results, workflow
from comfygov.delivery import job as jobs
from comfygov.delivery.comfyui import NodeClass
from comfygov.delivery.deadline import Deadline
from comfygov.delivery.failure import JobFailed, as_output
from comfygov.delivery.inputs import Placed, decoded
from comfygov.delivery.job import InputFile, Job
from comfygov.delivery.outputs import FileOutput, ValueOutput
from comfygov.delivery.refusals import Knowledge, Missing
from comfygov.delivery.work import Work
from comfygov.model.handler import Settings, Storage

T = TypeVar("T")
ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=12,
)
FIELDS = (
    *("workflow", "workflow_url", "images", "files", "input_images", "output_mode", "gcs_bucket", "gcs_prefix"),
    *("timeout", "comfy_org_api_key", "api_key_comfy_org", "previews", "refresh_worker", "bucket", "prefix"),
)
NODE: dict[str, Any] = {"class_type": "SaveImage", "inputs": {"filename_prefix": "a", "images": ["1", 0]}}
SUCCESS = ["execution_success", {}]
CLASSES = {"SaveImage": NodeClass("nodes", is_output=True), "PreviewAny": NodeClass("nodes", is_output=True)}


def outcome(does: Callable[[], T], code: str) -> T | None:
    """What it gives; None when it refuses with `code`, in words that JSON can hold."""
    refusals_ = []
    try:
        return does()
    except JobFailed as failure:
        refusals_.append(failure.error)
    assert [error.code for error in refusals_] == [code]
    json.dumps(as_output(refusals_[0]))
    return None


@given(ANY | st.dictionaries(st.sampled_from(FIELDS), ANY, max_size=5))
def test_any_input_is_a_job_or_a_reason(raw: Any) -> None:
    job = outcome(lambda: jobs.read("id", raw), "bad_job")
    if job is None:
        return
    assert job.workflow is not None or job.workflow_url
    assert job.timeout_seconds is None or 0 < job.timeout_seconds <= jobs.MAX_TIMEOUT_SECONDS


@given(
    st.dictionaries(st.text(max_size=5), ANY | st.fixed_dictionaries({"class_type": ANY, "inputs": ANY}), max_size=4)
)
def test_any_object_is_a_workflow_or_a_reason(document: Any) -> None:
    graph = outcome(lambda: workflow.judge(document), "bad_workflow")
    if graph is not None:
        assert workflow.own(graph, "token", CLASSES, Placed().new_name).keys() == graph.keys()


def test_both_forms_of_input_and_both_names_of_the_key() -> None:
    given_ = {"workflow": {"1": NODE}, "images": [{"name": "a.png", "image": "QQ=="}], "api_key_comfy_org": "k"}
    assert jobs.read("1", given_) == jobs.read("1", json.dumps(given_))
    assert jobs.read("1", given_).api_key == jobs.read("1", {**given_, "comfy_org_api_key": "k"}).api_key == "k"
    as_text = jobs.read("1", {**given_, "workflow": json.dumps({"1": NODE})})
    assert as_text.workflow == {"1": NODE}
    assert jobs.read("1", {"prompt": {"1": NODE}}).workflow == {"1": NODE}


def test_two_files_of_one_name_are_one_file_or_a_mistake() -> None:
    one = {"name": "a.png", "image": "QQ=="}
    assert len(jobs.read("1", {"workflow": {"1": NODE}, "images": [one, one]}).files) == 1
    with pytest.raises(JobFailed, match=r"two different input files are named `a\.png`"):
        jobs.read("1", {"workflow": {"1": NODE}, "images": [one, {**one, "image": "Qg=="}]})


@given(st.binary(max_size=200))
def test_every_usual_way_to_write_bytes_is_read(data: bytes) -> None:
    plain, address = base64.b64encode(data).decode(), base64.urlsafe_b64encode(data).decode()
    folded = "\r\n".join(plain[at : at + 20] for at in range(0, len(plain), 20))
    for text in (
        plain,
        address,
        address.rstrip("="),
        folded,
        f"data:image/png;base64,{plain}",
        f"DATA:;base64,{plain}",
    ):
        assert decoded(InputFile("a", text), 1000) == data
    escaped = "".join(f"%{byte:02x}" for byte in data)
    assert decoded(InputFile("a", f"data:,{escaped}"), 1000) == data


@given(st.text(max_size=40))
def test_any_text_is_bytes_or_a_reason(text: str) -> None:
    outcome(lambda: decoded(InputFile("a", text), 20), "bad_job")


def test_each_job_has_names_and_results_of_its_own() -> None:
    graph = {
        "1": {
            "class_type": "LoadImage",
            "inputs": {"image": "cat.png", "again": ["cat.png [input]", {"x": "cat.png"}]},
        },
        "2": NODE,
        "3": {"class_type": "PreviewAny", "inputs": {"source": "a cat.png in a text"}},
        "4": {"class_type": "Other", "inputs": {"filename_prefix": ["1", 0]}},
    }
    placed = Placed(names={"cat.png": "token-0-cat.png"})
    own = workflow.own(graph, "token", CLASSES, placed.new_name)
    assert own["1"]["inputs"] == {
        "image": "token-0-cat.png",
        "again": ["token-0-cat.png [input]", {"x": "token-0-cat.png"}],
    }
    assert own["2"]["inputs"]["filename_prefix"] == "token/a"
    assert own["3"]["inputs"] == {"source": "a cat.png in a text", "comfygov_job": "token"}
    assert own["4"] == graph["4"]
    assert graph["2"]["inputs"]["filename_prefix"] == "a", "what was sent stays as it is"


@given(st.dictionaries(st.text(max_size=4), st.dictionaries(st.text(max_size=6), ANY, max_size=3), max_size=3) | ANY)
def test_whatever_a_history_says_is_collected_or_refused(found: Any) -> None:
    work = Work(Path("/nowhere/at/all"))
    try:
        collected = outputs.collect({"outputs": found}, work, "token")
    except JobFailed:
        return
    assert not [one for one in collected if isinstance(one, FileOutput)]


@pytest.mark.parametrize("name", ["../../etc/passwd", "/etc/passwd", "a/../../b", "..", "\0", "x" * 5000])
def test_a_node_names_no_file_outside(tmp_path: Path, name: str) -> None:
    work = Work(tmp_path)
    work.output.mkdir()
    (tmp_path / "b").write_text("secret")
    for item in (
        {"filename": name},
        {"filename": "b", "subfolder": name},
        {"filename": "b", "subfolder": "..", "type": "output"},
    ):
        with pytest.raises(JobFailed):
            outputs.collect({"outputs": {"1": {"images": [item]}}}, work, "token")
    (work.output / "link").symlink_to(tmp_path)
    with pytest.raises(JobFailed):
        outputs.collect({"outputs": {"1": {"images": [{"filename": "b", "subfolder": "link"}]}}}, work, "token")


@given(
    st.integers(),
    st.dictionaries(st.sampled_from(["error", "node_errors"]), ANY | st.dictionaries(st.text(max_size=3), ANY)),
)
def test_whatever_a_refusal_says_it_is_one(status: int, answer: dict[str, Any]) -> None:
    with pytest.raises(JobFailed) as failure:
        refusals.refuse_refused(400 if status == 200 else status, answer, {}, Knowledge("v", {}))
    json.dumps(as_output(failure.value.error))


def test_a_model_that_is_missing_is_named_with_its_place() -> None:
    wanted = Missing("checkpoints", ("/models/checkpoints/sd.safetensors",), "https://example.com/sd.safetensors")
    knows = Knowledge("v1", {}, lambda _class, _input, _value: wanted)
    extra = {"input_name": "ckpt_name", "received_value": "sd.safetensors"}
    error = {"type": "value_not_in_list", "message": "Value not in list", "details": "…", "extra_info": extra}
    answer = {"error": {"message": "…"}, "node_errors": {"4": {"class_type": "Loader", "errors": [error]}}}
    with pytest.raises(JobFailed) as failure:
        refusals.refuse_refused(400, answer, {}, knows)
    found = failure.value.error
    assert (found.code, found.message) == ("missing_model", "the model `sd.safetensors` is not there")
    assert "belongs into /models/checkpoints/sd.safetensors" in found.nodes[0].message
    assert "the version has it from https://example.com/sd.safetensors" in found.nodes[0].message


def test_a_class_that_is_missing_is_named_with_its_pack() -> None:
    graph = {"1": {"class_type": "Theirs", "inputs": {}}, "2": NODE}
    with pytest.raises(JobFailed) as failure:
        refusals.refuse_unknown_classes(graph, CLASSES, Knowledge("v1", {"Theirs": "their-pack"}))
    assert failure.value.error.code == "missing_node"
    assert "version v1 has this class in the pack their-pack" in failure.value.error.nodes[0].message


@pytest.mark.parametrize(
    ("entry", "code"),
    [
        ({"status": {"completed": True, "status_str": "success", "messages": [SUCCESS]}}, ""),
        ({"status": {"completed": False, "messages": [["execution_interrupted", {}]]}}, "interrupted"),
        ({"status": {"completed": True, "messages": []}}, "execution_failed"),
        ({}, "execution_failed"),
        (
            {"status": {"messages": [["execution_error", {"exception_type": "torch.OutOfMemoryError"}]]}},
            "out_of_memory",
        ),
        ({"status": {"completed": True, "messages": [SUCCESS, ["execution_error", {}]]}}, "execution_failed"),
    ],
)
def test_what_a_history_entry_means(entry: dict[str, Any], code: str) -> None:
    if not code:
        refusals.refuse_failed(entry)
        return
    with pytest.raises(JobFailed) as failure:
        refusals.refuse_failed(entry)
    assert failure.value.error.code == code


@given(st.lists(st.text(min_size=1, max_size=12), min_size=2, max_size=6), st.text(max_size=20), st.text(max_size=20))
def test_objects_of_one_job_never_share_a_name_and_never_lead_upwards(
    names: list[str], prefix: str, job_id: str
) -> None:
    storage = Storage(object_name="{job_id}/{stem}{ext}")
    delivery = results.Delivery(Job(job_id, {}, prefix=prefix), storage, Deadline(5))
    keys = [
        delivery.key_of(FileOutput(Path(name.replace("\0", "")), name, "", "1", "images", "image/png", preview=False))
        for name in names
    ]
    assert len(set(keys)) == len(keys)
    for key in keys:
        assert key
        assert not key.startswith("/")
        assert ".." not in key.split("/")
        assert "" not in key.split("/")


def test_a_template_with_a_field_that_there_is_not_is_told() -> None:
    with pytest.raises(ValueError, match=r"`\{nobody\}` is no field"):
        results.refuse_bad_template("{nobody}/x")


def test_input_files_have_so_many_bytes_together(tmp_path: Path) -> None:
    files = [InputFile(name, "QUJDREVG") for name in ("a", "b")]
    settings = Settings(max_all_inputs_bytes=11)
    with pytest.raises(JobFailed, match="larger than 11 bytes together"):
        inputs.place(files, tmp_path, "token", settings, Deadline(5))
    assert not list(tmp_path.iterdir())
    assert len(inputs.place(files, tmp_path, "token", Settings(max_all_inputs_bytes=12), Deadline(5)).paths) == 2


@pytest.mark.parametrize(
    ("raw", "wants"),
    [
        ({"refresh_worker": True}, True),
        ('{"refresh_worker": true}', True),
        ("{", False),
        ({"refresh_worker": 1}, False),
    ],
)
def test_a_job_asks_for_a_fresh_worker_also_in_a_string(raw: object, wants: bool) -> None:
    assert jobs.wants_fresh(raw) == wants


@pytest.mark.parametrize(
    ("values", "limit", "fits"),
    [(["x"] * 10, 4000, True), (["x"] * 10, 2500, False), (["\u00fc" * 300], 2500, False), (["u" * 300], 2500, True)],
)
def test_a_result_is_as_large_as_it_is_sent(values: list[str], limit: int, fits: bool) -> None:
    delivery = results.Delivery(Job("j", {}), Storage(inline_limit_bytes=limit), Deadline(5))
    delivered = outcome(lambda: delivery.deliver([ValueOutput("1", "text", one) for one in values]), "too_large")
    assert (delivered is not None) == fits
    if delivered is not None:
        assert len(json.dumps(msgspec.to_builtins(delivered))) <= limit
