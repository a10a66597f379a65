"""The Dockerfile parser and what instructions mean."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jocker_engine.images.dockerfile import parse
from jocker_engine.images.evaluate import BuildState
from jocker_engine.images.stages import plan
from jocker_engine.images.steps import CopyStep, RunStep, Step, WorkdirStep
from jocker_protocol.errors import BadDockerfile
from jocker_protocol.types import ImageConfig


def evaluate(text: str, config: ImageConfig | None = None, **args: str) -> tuple[list[Step], ImageConfig]:
    """Steps and configuration of the last stage."""
    dockerfile = parse(text)
    todo = plan(dockerfile, "", args)
    stage = todo.stages[-1]
    state = BuildState(dockerfile, stage, config or ImageConfig(), args, todo.global_args)
    return [state.apply(instruction, todo.every) for instruction in stage.instructions], state.config


def test_form() -> None:
    dockerfile = parse(
        '# escape=`\n# a comment\nfrom x\nRUN one `\n  # inside\n\n  two\ncmd ["a", "b"]\nCMD [not json]\n'
    )
    keywords = [(i.keyword, i.rest, i.words, i.line) for i in dockerfile.instructions]
    assert keywords == [
        ("FROM", "x", None, 3),
        ("RUN", "one   two", None, 4),
        ("CMD", '["a", "b"]', ("a", "b"), 8),
        ("CMD", "[not json]", None, 9),
    ]


def test_here_documents() -> None:
    steps, _ = evaluate(
        'FROM x\nENV A=1\nRUN <<EOF\necho a\necho b\nEOF\nCOPY <<X <<"Y" /d/\nhas $A\nX\nhas $A\nY\n'
    )
    run, copy = steps[1:]
    assert isinstance(run, RunStep) and run.argv == ("/bin/sh", "-c", "echo a\necho b\n")
    assert isinstance(copy, CopyStep) and copy.destination == "/d/"
    assert [document.content for document in copy.heredocs] == ["has 1\n", "has $A\n"]


WRONG = [
    ("RUN x\nFROM y", 1, "before FROM"),
    ("", 1, "no FROM"),
    ("FROM x\nRNU y", 2, "did you mean RUN"),
    ("FROM x\nCOPY --form=a b c", 2, "--from"),
    ("FROM x\nCOPY a", 2, "SOURCE... DESTINATION"),
    ("FROM x\nRUN <<EOF\nx", 2, "no end"),
    ("FROM x\nENV A", 2, "NAME=VALUE"),
    ("FROM x\nEXPOSE http", 2, "no port"),
    ("FROM x\nSHELL sh", 2, "JSON"),
    ("FROM x\nRUN", 2, "needs an argument"),
    ("FROM $nope", 1, "FROM takes"),
    ("FROM x\nENV A=${B:?missing}", 2, "missing"),
    ("FROM x\nCOPY --from=3 a b", 2, "no earlier stage"),
    ("FROM x\nCOPY --chmod=rwx a b", 2, "octal"),
]


@pytest.mark.parametrize(("text", "line", "what"), WRONG)
def test_errors_point_at_their_place(text: str, line: int, what: str) -> None:
    with pytest.raises(BadDockerfile) as caught:
        evaluate(text)
    assert f"Dockerfile:{line}:" in caught.value.message and what in caught.value.message


def test_configuration() -> None:
    _, config = evaluate(
        'ARG V=1\nFROM x\nARG V\nENV A=$V B=$A\nLABEL k="v w"\nEXPOSE 80 1-2/udp\nVOLUME ["/a"]\nUSER u\n'
        'STOPSIGNAL INT\nWORKDIR /w\nWORKDIR sub\nENTRYPOINT ["e"]\nSHELL ["/bin/ash", "-c"]\nCMD echo $A\n'
    )
    assert config == ImageConfig(
        env=["A=1", "B="],
        cmd=["/bin/ash", "-c", "echo $A"],
        entrypoint=["e"],
        working_dir="/w/sub",
        user="u",
        exposed_ports=["80/tcp", "1/udp", "2/udp"],
        volumes=["/a"],
        labels={"k": "v w"},
        stop_signal="INT",
        shell=["/bin/ash", "-c"],
    )


def test_an_entrypoint_drops_the_cmd_of_the_base() -> None:
    base = ImageConfig(cmd=["old"])
    assert evaluate("FROM x\nENTRYPOINT e", base)[1].cmd is None
    assert evaluate("FROM x\nCMD new\nENTRYPOINT e", base)[1].cmd == ["/bin/sh", "-c", "new"]
    assert base.cmd == ["old"]


def test_build_arguments() -> None:
    text = "FROM x\nARG A=default\nARG B\nRUN echo $A\n"
    (run,) = (step for step in evaluate(text, A="given")[0] if isinstance(step, RunStep))
    assert "A=given" in run.env and not any(item.startswith("B=") for item in run.env)
    (other,) = (step for step in evaluate(text)[0] if isinstance(step, RunStep))
    assert run.canonical != other.canonical
    assert plan(parse(text), "", {"C": "x"}).unused_args == ("C",)


def test_only_needed_stages_are_planned() -> None:
    dockerfile = parse(
        "FROM a AS one\nFROM b AS two\nFROM one AS three\nCOPY --from=two /x /y\nFROM c AS four\n"
    )
    assert [stage.name for stage in plan(dockerfile, "", {}).stages] == ["four"]
    assert [stage.name for stage in plan(dockerfile, "three", {}).stages] == ["one", "two", "three"]
    assert [stage.name for stage in plan(dockerfile, "0", {}).stages] == ["one"]
    with pytest.raises(BadDockerfile, match="one, two, three, four"):
        plan(dockerfile, "five", {})


def test_paths_are_relative_to_the_working_directory() -> None:
    steps, _ = evaluate("FROM x\nWORKDIR /a\nCOPY f g/\nCOPY f .\nWORKDIR ../b\n")
    assert [step.destination for step in steps if isinstance(step, CopyStep)] == ["/a/g/", "/a/"]
    assert [step.path for step in steps if isinstance(step, WorkdirStep)] == ["/a", "/b"]


@given(st.text(alphabet="FROMRUNCPY abx=$\n\\\"'[]<-#{}:", max_size=80))
def test_nothing_but_bad_dockerfile_is_raised(text: str) -> None:
    try:
        evaluate("FROM x\n" + text)
    except BadDockerfile:
        pass
