"""A pack's declared requirements, in every form that packs write them."""

from __future__ import annotations

import pytest

from comfygov.resolve.requirements import Declared, ReadFile, parse, read_declared, read_requirements_text, suggestion


def read(*, limit: int = 500, **files: str) -> Declared:
    """Names are paths with `__` for `/` and `_txt`, `_toml`, `_py` for the ending."""
    return read_declared(reader(files, limit))


def reader(files: dict[str, str], limit: int = 500) -> ReadFile:
    """Reads like a pack does; a file that is asked for without end is an error here, not a hang."""
    named = {}
    for key, text in files.items():
        stem, _, ending = key.rpartition("_")
        named[f"{stem.replace('__', '/')}.{ending}"] = text
    asked = 0

    def read_file(path: str) -> str | None:
        nonlocal asked
        asked += 1
        assert asked <= limit, f"read {asked} files"
        return named.get(path)

    return read_file


def rejected(declared: Declared) -> list[tuple[str, int, str]]:
    return [(line.file, line.line, line.text) for line in declared.rejected]


def malformed(declared: Declared) -> list[tuple[str, int, str]]:
    return [(line.file, line.line, line.text) for line in declared.malformed]


def test_lines_stay_as_the_author_wrote_them() -> None:
    lines = ["numpy", "Pillow>=10,<12", "opencv-python-headless[ffmpeg]<=4.7.0.72", "foo[a,b]==1.0", "x ~= 2.1"]
    lines += ['pywin32; sys_platform == "win32"', "y[z]>=1 ; python_version < '3.11' and extra == 'q'"]
    assert read(requirements_txt="\n".join(lines)).requirements == lines


def test_urls_keep_their_fragments() -> None:
    lines = ["pkg @ https://host/x.whl#sha256=abc", "other @ git+https://host/o/r.git@main#egg=other&subdirectory=s"]
    assert read(requirements_txt="\n".join(lines)).requirements == lines


def test_comments_blank_lines_bom_and_crlf_are_no_content() -> None:
    text = "\ufeffnumpy # the old one\r\n\r\n# a comment\r\n   # another\r\n\tpillow\r\n"
    assert read(requirements_txt=text).requirements == ["numpy", "pillow"]


def test_continuation_lines_are_one_line_and_hashes_are_left_out() -> None:
    text = "numpy==1.26.4 \\\n    --hash=sha256:aa \\\n    --hash=sha256:bb\npillow \\\n  >=10\nlast \\"
    declared = read(requirements_txt=text)
    assert [line.replace(" ", "") for line in declared.requirements] == ["numpy==1.26.4", "pillow>=10", "last"]
    assert not declared.rejected
    assert not declared.malformed


def test_the_number_of_a_continued_line_is_that_of_its_beginning() -> None:
    declared = read(requirements_txt="a\nb \\\n\\\n=> 2\nc =! 1\n")
    assert [(line.file, line.line) for line in declared.malformed] == [("requirements.txt", 2), ("requirements.txt", 5)]


def test_the_same_line_twice_is_one_requirement() -> None:
    assert read(requirements_txt="numpy\nnumpy\n").requirements == ["numpy"]


@pytest.mark.parametrize("form", ["-r more.txt", "-rmore.txt", "--requirement more.txt", "--requirement=more.txt"])
def test_includes_are_followed(form: str) -> None:
    assert read(requirements_txt=f"a\n{form}\nc", more_txt="b").requirements == ["a", "b", "c"]


def test_nested_includes_start_at_the_file_that_includes() -> None:
    more = "-r ./gpu.txt\n-r ../top.txt"
    declared = read(requirements_txt="-r deps/all.txt", deps__all_txt=more, deps__gpu_txt="gpu", top_txt="top")
    assert declared.requirements == ["gpu", "top"]


@pytest.mark.parametrize("file", ["../outside.txt", "a/../../outside.txt", "/etc/passwd", "..\\outside.txt"])
def test_an_include_that_leaves_the_pack_is_rejected_with_its_place(file: str) -> None:
    declared = read(requirements_txt=f"a\n-r {file}\n")
    assert rejected(declared) == [("requirements.txt", 2, f"-r {file}")]
    assert declared.requirements == ["a"]


def test_a_cycle_ends() -> None:
    declared = read(requirements_txt="a\n-r other.txt", other_txt="b\n-r requirements.txt")
    assert declared.requirements == ["a", "b"]


def test_a_cycle_with_branches_does_not_explode() -> None:
    assert read(requirements_txt="a\n" + "-r requirements.txt\n" * 4).requirements == ["a"]


def test_a_cycle_is_not_called_a_file_outside_of_the_pack() -> None:
    declared = read(requirements_txt="a\n-r requirements.txt")
    assert not [line for line in declared.rejected if "outside" in line.reason]


def test_an_include_that_is_not_there_is_malformed() -> None:
    assert malformed(read(requirements_txt="-r gone.txt")) == [("requirements.txt", 1, "-r gone.txt")]


def test_an_include_that_is_not_there_names_the_line_that_asks_for_it() -> None:
    assert malformed(read(requirements_txt="a\n-r gone.txt"))[0][:2] == ("requirements.txt", 2)


def test_an_include_by_url_is_rejected_as_what_it_is() -> None:
    assert rejected(read(requirements_txt="-r https://host/more.txt")) == [
        ("requirements.txt", 1, "-r https://host/more.txt")
    ]


@pytest.mark.parametrize(
    ("line", "word"),
    [
        ("-e .", "editable"),
        ("-e git+https://host/o/r.git#egg=r", "editable"),
        ("--editable=.", "editable"),
        ("--extra-index-url https://download.pytorch.org/whl/cu121", "index"),
        ("--extra-index-url=https://host/simple", "index"),
        ("-i https://host/simple", "index"),
        ("-f wheels", "index"),
        ("-c constraints.txt", "constraints"),
        ("--pre", "options"),
        ("git+https://host/o/r.git", "without a name"),
        ("https://host/x-1-py3-none-any.whl", "without a name"),
        ("./local", "without a name"),
        ("wheels/x-1-py3-none-any.whl", "without a name"),
        ("comfyui-frontend-package==1.0", "ComfyUI itself"),
    ],
)
def test_what_cannot_be_taken_is_kept_with_a_reason(line: str, word: str) -> None:
    declared = read(requirements_txt=f"first\n{line}\n")
    assert declared.requirements == ["first"]
    assert rejected(declared) == [("requirements.txt", 2, line)]
    assert word in declared.rejected[0].reason
    assert not declared.malformed


@pytest.mark.parametrize("name", ["comfyui_frontend_package", "ComfyUI.Frontend-Package"])
def test_the_frontend_is_refused_under_each_of_its_names(name: str) -> None:
    assert not read(requirements_txt=name).requirements


def test_comfyui_may_ask_for_its_own_frontend() -> None:
    declared = read_requirements_text("comfyui-frontend-package==1.28.8\ntorch\n", "requirements.txt")
    assert declared.requirements == ["comfyui-frontend-package==1.28.8", "torch"]


def test_an_option_behind_a_requirement_is_left_out_and_said() -> None:
    declared = read(requirements_txt="numpy --no-binary :all:\n")
    assert declared.requirements == ["numpy"]
    assert "--no-binary" in declared.rejected[0].reason


def test_two_dashes_and_nothing_behind_do_no_harm() -> None:
    read(requirements_txt="numpy --\n")


@pytest.mark.parametrize(
    "line", ["einops=>0.1", "einops=1.0", "a b", "numpy>=", "torch>=2.*", "???", "x[", "<<<<<<< HEAD"]
)
def test_a_malformed_line_is_named_by_file_and_line(line: str) -> None:
    declared = read(requirements_txt="-r sub/more.txt", sub__more_txt=f"ok\n\n{line}  # why\n")
    assert malformed(declared) == [("sub/more.txt", 3, line)]
    assert declared.requirements == ["ok"]


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        *(("einops=>0.1", "einops>=0.1"), ("a=<2", "a<=2"), ("a=1.0", "a==1.0"), ("a = 1.0", "a == 1.0")),
        *(("a[x]=1 ; python_version<'3.11'", "a[x]==1 ; python_version<'3.11'"), ("a=>1,=<2", "a>=1,<=2")),
        *(("a>=1 <2", "a>=1,<2"), ("a 1.2", "a==1.2"), ("a~1.2", "a~=1.2"), ("a==1.x", "a==1.*"), ("a>=1.*", "a>=1")),
        *(("a \u2265 1", "a >= 1"), ("a > = 1", "a >= 1"), ("a;", "a"), ("a==", "a"), ("a.", "a"), ("'a>=1'", "a>=1")),
        *(
            ("a@1.2", "a==1.2"),
            ("a@latest", "a"),
            ("pip install a==1", "a==1"),
            ("a==1+cu118 -f https://x", "a==1+cu118"),
        ),
        *(("a=1; python_version=='3.1'", "a==1; python_version=='3.1'"), ("a<=>2", ""), ("==1.0", "")),
        *(("a>=1", ""), ("a===1", ""), ("???", ""), ("", ""), ("a b=1", "")),
    ],
)
def test_a_suggestion_is_the_likely_form_or_nothing(text: str, meant: str) -> None:
    assert suggestion(text) == meant
    assert not meant or parse(meant)
