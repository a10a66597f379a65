"""The Dockerfile parser and what instructions mean."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jocker_engine.images.dockerfile import parse
from jocker_engine.images.evaluate import BuildState
from jocker_engine.images.stages import plan, with_triggers
from jocker_engine.images.steps import CopyStep, RunMount, RunStep, Step, WorkdirStep
from jocker_protocol.errors import BadDockerfile
from jocker_protocol.types import ImageConfig


def evaluate(text: str, config: ImageConfig | None = None, **args: str) -> tuple[list[Step], ImageConfig]:
    """Steps and configuration of the last stage."""
    dockerfile = parse(text)
    todo = plan(dockerfile, "", args)
    stage = todo.stages[-1]
    state = BuildState(dockerfile, stage, config or ImageConfig(), args, todo.global_args)
    return [state.apply(instruction, todo.every) for instruction in state.instructions], state.config


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
    ("RUN x\nFROM y", 1, 1, "before FROM"),
    ("", 1, 1, "no FROM"),
    ("FROM x\n  RNU y", 2, 3, "did you mean RUN"),
    ("FROM x\nCOPY --form=a b c", 2, 6, "did you mean --from"),
    ("FROM x\nCOPY --chown=1 \\\n  --form=a b c", 3, 3, "did you mean --from"),
    ("FROM x\nEXPOSE --from=a b", 2, 8, "it has: none"),
    ("FROM x\nCOPY --link=yes a b", 2, 6, "true or false"),
    ("FROM x\nCOPY --chown=1 --chown=2 a b", 2, 16, "twice"),
    ("FROM x\nCOPY --chown a b", 2, 6, "needs a value"),
    ("FROM x\nCOPY a", 2, 1, "SOURCE... DESTINATION"),
    ("FROM x\nRUN <<EOF\nx", 2, 5, "no end"),
    ("FROM x\nENV A", 2, 5, "NAME=VALUE"),
    ("FROM x\nENV A=1 \\\n B", 3, 2, "NAME=VALUE"),
    ("FROM x\nEXPOSE 80 \\\n\n# comment\n  http", 5, 3, "no port"),
    ("FROM x\nEXPOSE 9-8", 2, 8, "no port"),
    ("FROM x\nEXPOSE 0", 2, 8, "no port"),
    ("FROM x\nEXPOSE 80/icmp", 2, 8, "no port"),
    ("FROM x\nSHELL sh", 2, 7, "JSON"),
    ("FROM x\nCMD [1]", 2, 5, "array of strings"),
    ("FROM x\nRUN []", 2, 5, "nothing to run"),
    ("FROM x\nRUN", 2, 1, "needs an argument"),
    ("FROM x\nSTOPSIGNAL NOPE", 2, 12, "no such signal"),
    ("FROM x\nHEALTHCHECK --interval=1 CMD x", 2, 1, "no span of time"),
    ("FROM x\nHEALTHCHECK --timeout=1us CMD x", 2, 1, "shorter than 1ms"),
    ("FROM x\nHEALTHCHECK x", 2, 1, "NONE"),
    ('FROM x\nVOLUME [""]', 2, 8, "empty"),
    ("FROM $nope", 1, 6, "FROM takes"),
    ("FROM x AS 1a", 1, 11, "no name for a stage"),
    ("FROM x as a b", 1, 1, "FROM takes"),
    ("FROM --platform=a/b/c/d x", 1, 6, "no platform"),
    ("FROM x\nENV A=${B:?missing}", 2, 7, "missing"),
    ("FROM x\nENV A='b", 2, 7, "no closing '"),
    ("FROM x\nCOPY --from=3 a b", 2, 13, "no earlier stage"),
    ("FROM x\nCOPY --from=0 a b", 2, 13, "no earlier stage"),
    ("FROM x\nCOPY --from=later a b\nFROM y AS later", 2, 13, "begins later, in line 3"),
    ("FROM x AS me\nCOPY --from=me a b", 2, 13, "this stage itself"),
    ("FROM x\nARG A=y\nCOPY --from=$A a b", 3, 13, "not replaced"),
    ("FROM x\nCOPY --chmod=rwx a b", 2, 6, "octal"),
    ("FROM x\nCOPY --chmod=8 a b", 2, 6, "octal"),
    ("FROM x\nCOPY --exclude=[ a b", 2, 6, "--exclude"),
    ('FROM x\nCOPY "a b" c', 2, 6, "no closing"),
    ("FROM x\nCOPY a <<EOF\nEOF", 2, 8, "no destination"),
    ("FROM x\nCOPY <<a/b /c\na/b", 2, 6, "name of a file"),
    ("FROM x\nCOPY http://a/b c", 2, 6, "ADD does"),
    ("FROM x\nCOPY https://h/a/b.git c", 2, 6, "no git repository; ADD does"),
    ("FROM x\nADD https://h/a.git?x=1 c", 2, 5, "unknown option x"),
    ("FROM x\nADD --checksum=x https://h/a.git c", 2, 5, "the commit"),
    ("FROM x\nADD --checksum=sha256:1 http://a/b c", 2, 5, "sha256:HEX"),
    (f"FROM x\nADD --checksum=sha256:{'0' * 64} a c", 2, 5, "one source, a URL"),
    ("FROM x\nONBUILD FROM y", 2, 9, "not allowed"),
    ("FROM x\nONBUILD ONBUILD RUN y", 2, 9, "not allowed"),
    ("FROM x\nONBUILD RNU y", 2, 9, "did you mean RUN"),
    ("FROM x\nRUN --network=bridge y", 2, 5, "default, host and none"),
    ("FROM x\nRUN --security=no y", 2, 5, "sandbox and insecure"),
    ("FROM x\nRUN --mount=type=cahce,target=/a y", 2, 5, "did you mean cache"),
    ("FROM x\nRUN --mount=type=cache y", 2, 5, "needs a target"),
    ("FROM x\nRUN --mount=tpye=cache y", 2, 5, "did you mean type"),
    ("FROM x\nRUN --mount=target=/a,uid=1 y", 2, 5, "has no uid"),
    ("FROM x\nRUN --mount=target=/ y", 2, 5, "must not be /"),
    ("FROM x\nRUN --mount=type=secret y", 2, 5, "id or target"),
    ("FROM x\nRUN --mount=type=secret,id=a,source=b y", 2, 5, "not both"),
    ("FROM x\nRUN --mount=type=tmpfs,target=/a,size=big y", 2, 5, "size=big"),
    ("FROM x\nRUN --mount=type=cache,target=/a,mode=999 y", 2, 5, "octal"),
    ("FROM x\nRUN --mount=type=cache,target=/a,sharing=lock y", 2, 5, "did you mean locked"),
    ("# escape=x\nFROM y", 1, 1, "escape must be"),
    ("# escape=`\n# escape=`\nFROM y", 2, 1, "only one"),
    ("FROM x\nRUN a\0b", 2, 6, "NUL"),
]


@pytest.mark.parametrize(("text", "line", "column", "what"), WRONG)
def test_errors_point_at_their_place(text: str, line: int, column: int, what: str) -> None:
    with pytest.raises(BadDockerfile) as caught:
        evaluate(text)
    error = caught.value
    assert error.message.startswith(f"Dockerfile:{line}:{column}: ") and what in error.message
    assert "\n" not in error.message
    assert error.data["source"] == (text.split("\n")[line - 1])
    assert (error.data["file"], error.data["line"], error.data["column"]) == ("Dockerfile", line, column)


def test_errors_find_the_word_that_they_quote() -> None:
    dockerfile = parse("FROM x\nCOPY a \\\n   missing /d\n")
    error = dockerfile.error_about(2, "no such file: 'missing'")
    assert error.message.startswith("Dockerfile:3:4: ") and error.data["source"] == "   missing /d"
    assert dockerfile.error_about(1, "no such image", "x").data["column"] == 6
    assert dockerfile.error_about(1, "no word").data["column"] == 1


def test_lines_go_on_behind_an_escape() -> None:
    text = "FROM x\nRUN a \\\n  # comment\n\n  b \\  \n\tc\\\\\nRUN d\\\\ \\\ne\nRUN f \\"
    runs = [(i.rest, i.line, i.gap) for i in parse(text).instructions[1:]]
    assert runs == [("a   b \tc\\\\", 2, 4), ("d\\\\ e", 7, 0), ("f", 9, 0)]
    dos = parse("FROM x\r\nRUN a \\\r\n b\r\nCOPY <<A /c\r\nd\r\nA\r\n").instructions
    assert [i.rest for i in dos] == ["x", "a  b", "<<A /c"]
    assert dos[2].heredocs[0].content == "d\r\n"


def test_directives_end_at_the_first_other_line() -> None:
    for text, escape in (
        ("# syntax=docker/dockerfile:1\n#Escape = `\nFROM x", "`"),
        ("# a comment\n# escape=`\nFROM x", "\\"),
        ("# unknown=1\n# escape=`\nFROM x", "\\"),
        ("\n# escape=`\nFROM x", "\\"),
        ("\ufeff# escape=`\nFROM x", "`"),
        ("FROM x\n# escape=`", "\\"),
    ):
        assert parse(text).escape == escape, text
    assert parse("# escape=`\nFROM x\nRUN dir c:\\\nRUN a `\n b").instructions[2].rest == "a  b"


HEREDOCS = [
    ("RUN <<A\n\ta $x\nA", ["sh", "\ta $x\n"], None),
    ("RUN <<-A\n\t\ta\n\tA", ["sh", "a\n"], None),
    ("RUN <<-'A B'\n\ta\n\tA B", ["sh", "a\n"], None),
    ("RUN <<A\n#!/usr/bin/awk -f\nA", ["sh", "/dev/pipes/A"], "#!/usr/bin/awk -f\n"),
    ("RUN python3 <<A\nprint()\nA", ["sh", "python3 <<A\nprint()\nA"], None),
    ("RUN cat <<A - <<-'B' > /c\na\nA\n\tb\nB", ["sh", "cat <<A - <<-'B' > /c\na\nA\n\tb\nB"], None),
    ("RUN <<A cat\n#!x\nA", ["sh", "<<A cat\n#!x\nA"], None),
    ("RUN echo $((1<<3)) '<<A' <<<b", ["sh", "echo $((1<<3)) '<<A' <<<b"], None),
    ('RUN ["cat", "<<A"]', ["cat", "<<A"], None),
    ("RUN a <<A \\\n  b\nx\nA", ["sh", "a <<A   b\nx\nA"], None),
]


@pytest.mark.parametrize(("text", "argv", "script"), HEREDOCS)
def test_here_documents_of_run(text: str, argv: list[str], script: str | None) -> None:
    (step,), _ = evaluate(f"FROM x\n{text}\nRUN y", ImageConfig(shell=["sh"]))[0][:1], None
    assert isinstance(step, RunStep) and list(step.argv) == argv
    assert (step.script.content if step.script else None) == script


def test_here_documents_of_copy() -> None:
    text = 'FROM x\nENV v=1\nCOPY f <<A <<-"B" /d/\n"$v" \\$v ${w:-d}\nA\n\t$v\n\tB\nADD <<C c\nC\n'
    _, copy, add = evaluate(text)[0]
    assert isinstance(copy, CopyStep) and isinstance(add, CopyStep)
    assert copy.sources == ("f",)
    assert [(d.name, d.content) for d in copy.heredocs] == [("A", '"1" $v d\n'), ("B", "$v\n")]
    assert [(d.name, d.content) for d in add.heredocs] == [("C", "")] and add.destination == "/c"


def test_flags_of_copy_and_add() -> None:
    text = (
        "FROM x AS s\nFROM x\nARG o=1:2\nENV p=*.md\nWORKDIR /w\n"
        "COPY --from=S --chown=$o --chmod=u=rwX,go=rX --link --parents --exclude=$p --exclude='!R.md' a/./b c/\n"
        "ADD --unpack --keep-git-dir=true http://h/x https://h/y.git/z l.tar d\n"
        f'ADD --checksum=sha256:{"a" * 64} http://h/x /f\nADD --unpack=false l.tar .\nCOPY --from=i:1 ["a b", "c"]\n'
    )
    copy, add, checked, plain, image = (step for step in evaluate(text)[0] if isinstance(step, CopyStep))
    assert (copy.source_stage, copy.source_image, copy.chown, copy.chmod) == (0, "", "1:2", "u=rwX,go=rX")
    assert copy.link and copy.parents and copy.exclude == ("*.md", "!R.md") and not copy.unpack
    assert (copy.sources, copy.destination) == (("a/./b",), "/w/c/")
    assert (
        add.urls == ("http://h/x", "https://h/y.git/z")
        and add.sources == ("l.tar",)
        and add.destination == "/w/d"
    )
    assert add.unpack and add.unpack_urls and add.keep_git_dir
    assert checked.checksum == f"sha256:{'a' * 64}" and checked.unpack and not checked.unpack_urls
    assert not plain.unpack and plain.destination == "/w/"
    assert image.source_image == "i:1" and image.sources == ("a b",)


MOUNTS = [
    ("target=a", RunMount("bind", "/w/a", read_only=True)),
    ("type=bind,from=s,source=b/../c,dst=/a,rw", RunMount("bind", "/a", source="/c", source_stage=0)),
    (
        "type=bind,from=img:1,src=$v,target=/$v,readonly=false",
        RunMount("bind", "/1", source="/1", source_image="img:1"),
    ),
    ("from=s", RunMount("bind", "/w", source_stage=0, read_only=True)),
    ("type=cache,target=/a/../c", RunMount("cache", "/c", id="/c")),
    (
        "type=CACHE,destination=/a,id=i,sharing=locked,mode=0700,uid=1,gid=2,ro,from=s,source=/d",
        RunMount("cache", "/a", "i", "/d", 0, "", True, "locked", False, 0o700, 1, 2),
    ),
    ("type=tmpfs,target=/a,size=1.5k", RunMount("tmpfs", "/a", size=1536)),
    ("type=secret,id=a/b", RunMount("secret", "/run/secrets/b", id="a/b", mode=0o400)),
    ("type=secret,target=/x/k", RunMount("secret", "/x/k", id="k", mode=0o400)),
    ("type=secret,id=a,env=E,required", RunMount("secret", "", id="a", mode=0o400, required=True, env="E")),
    (
        "type=secret,id=a,env=E,target=/t,required=false",
        RunMount("secret", "/t", id="a", mode=0o400, env="E"),
    ),
    ("type=ssh", RunMount("ssh", "/run/buildkit/ssh_agent.0", id="default", mode=0o600)),
    (
        "type=ssh,id=i,target=/s,uid=3,required=true",
        RunMount("ssh", "/s", id="i", mode=0o600, uid=3, required=True),
    ),
]


@pytest.mark.parametrize(("text", "mount"), MOUNTS)
def test_mounts(text: str, mount: RunMount) -> None:
    step = evaluate(f"FROM x AS s\nFROM x\nENV v=1\nWORKDIR /w\nRUN --mount={text} --network=none y")[0][-1]
    assert isinstance(step, RunStep)
    assert step.mounts == (mount,)
    assert step.network == "none"


def test_onbuild() -> None:
    text = "FROM x AS a\nONBUILD RUN <<A\none\nA\nONBUILD COPY --from=s $v /d\nFROM x AS s\nFROM a AS b\nARG v=2\nRUN three\nFROM b\n"
    dockerfile = parse(text)
    every = plan(dockerfile, "", {}).every
    assert [stage.needs.stages for stage in every] == [set(), set(), {0, 1}, {2}]
    assert [i.keyword for i in every[2].instructions] == ["RUN", "COPY", "ARG", "RUN"]
    assert not every[3].instructions
    state = BuildState(dockerfile, every[0], ImageConfig(), {}, {})
    for instruction in state.instructions:
        state.apply(instruction, every)
    assert state.config.on_build == ["RUN <<A\none\nA", "COPY --from=s $v /d"]
    steps, config = evaluate("FROM a\nRUN two", ImageConfig(on_build=["RUN <<A\none\nA", "ENV a=$v"]))
    assert [step.line for step in steps] == [1, 1, 2] and config.on_build == []
    assert isinstance(steps[0], RunStep) and steps[0].argv[-1] == "one\n" and config.env == ["a="]
    with pytest.raises(BadDockerfile, match="ONBUILD RNU x of the base image: unknown instruction"):
        evaluate("FROM a", ImageConfig(on_build=["RNU x"]))


def test_triggers_of_images_need_stages_too() -> None:
    dockerfile = parse("FROM x AS one\nFROM x AS two\nFROM one AS three\nFROM y\n")
    todo = plan(dockerfile, "", {})
    assert [stage.index for stage in todo.stages] == [3]
    more = with_triggers(
        dockerfile, todo, {3: ["COPY --from=three /a /b", "RUN --mount=target=/c,from=two x"]}
    )
    assert [stage.index for stage in more.stages] == [0, 1, 2, 3]
    assert more.every[3].needs.images == {"y"}


def test_arguments_across_stages() -> None:
    text = "ARG A=1\nARG B\nFROM x:$A AS one\nARG A\nARG C=c\nFROM one AS two\nRUN $A $C\nFROM x\nRUN y\n"
    dockerfile = parse(text)
    todo = plan(dockerfile, "two", {"B": "b"})
    assert [stage.base for stage in todo.stages] == ["x:1", "one"] and todo.unused_args == ()
    one = BuildState(dockerfile, todo.every[0], ImageConfig(), {}, todo.global_args)
    for instruction in one.instructions:
        one.apply(instruction)
    assert one.args == {"A": "1", "C": "c"}
    two = BuildState(dockerfile, todo.every[1], one.config, {}, todo.global_args, one.args)
    step = two.apply(two.instructions[0])
    assert isinstance(step, RunStep) and {"A=1", "C=c"} <= set(step.env)
    last = BuildState(dockerfile, todo.every[2], ImageConfig(), {}, todo.global_args)
    step = last.apply(last.instructions[0])
    assert isinstance(step, RunStep) and not {"A=1", "C=c"} & set(step.env)


def test_of_env_and_arg_the_later_one_counts() -> None:
    text = "FROM x\nENV A=1\nRUN a\nARG A=2\nRUN b\nENV B=$A\nENV A=3\nRUN c\n"
    steps, config = evaluate(text)
    assert config.env == ["A=3", "B=2"]
    runs = [step for step in steps if isinstance(step, RunStep)]
    assert [item for run in runs for item in run.env if item[:2] == "A="] == ["A=1", "A=2", "A=3"]
    given, _ = evaluate(text, A="9")
    assert isinstance(given[3], RunStep) and "A=9" in given[3].env


def test_predefined_arguments() -> None:
    text = "ARG TARGETARCH\nFROM --platform=$BUILDPLATFORM x-$TARGETARCH\nARG TARGETOS\nARG TARGETPLATFORM\nRUN y\n"
    todo = plan(parse(text), "", {"HTTP_PROXY": "p", "BUILDKIT_INLINE_CACHE": "1"}, "linux/arm/v7")
    assert todo.stages[0].base == "x-arm" and not todo.unused_args
    assert (
        todo.global_args["TARGETVARIANT"] == "v7"
        and todo.stages[0].platform == todo.global_args["BUILDPLATFORM"]
    )
    step = evaluate("FROM x\nRUN y", HTTP_PROXY="p")[0][0]
    assert isinstance(step, RunStep) and "HTTP_PROXY=p" in step.env
    assert step.canonical == evaluate("FROM x\nRUN y")[0][0].canonical


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


PIECES = st.sampled_from(
    [
        *"abx=$\n\\\"'[]<-#{}:/,% \t\r",
        "FROM x",
        "RUN ",
        "COPY ",
        "ADD ",
        "ENV ",
        "ARG ",
        "ONBUILD ",
        "HEALTHCHECK CMD ",
        "--mount=",
        "--from=0 ",
        "<<A",
        "\nA\n",
        "${a:-",
        "EXPOSE 1",
        "\\\n",
        "type=cache,",
        "target=/a",
        "# check=",
        "\ud800",
        "é",
        'SHELL ["',
        '"]',
        "http://h",
        "STOPSIGNAL 9",
    ]
)


@given(st.lists(PIECES, max_size=40).map("".join))
def test_nothing_but_bad_dockerfile_is_raised(text: str) -> None:
    try:
        evaluate("FROM x\n" + text)
    except BadDockerfile:
        pass
