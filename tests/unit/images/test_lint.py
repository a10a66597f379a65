"""Rules of the linter, one by one: what breaks each, and what does not."""

from __future__ import annotations

import pytest

from jocker_engine.images.dockerfile import parse
from jocker_engine.images.lint import Base, lint, options_of
from jocker_protocol.errors import BadDockerfile
from jocker_protocol.types import Finding, ImageConfig

IMAGES = {"x": Base(ImageConfig(env=["HOME_DIR=/h"]), "linux/amd64")}


def check(text: str, ignore: str = "", **args: str) -> list[Finding]:
    return lint(parse(text), "", args, IMAGES, ignore.split("\n"))


BROKEN = [
    ("FROM x AS Build", ["StageNameCasing:1"]),
    ("FROM x as build", ["FromAsCasing:1"]),
    ("from x as build\nrun y", []),
    ("FROM x\nRUN a \\\n\n  b", ["NoEmptyContinuation:3"]),
    ("FROM x\nRUN a \\\n# fine\n  b", []),
    ("FROM x\nrun y\nRUN z", ["ConsistentInstructionCasing:2"]),
    ("from x\nRun y\nrun z", ["ConsistentInstructionCasing:2"]),
    ("FROM x AS a\nFROM x AS a", ["DuplicateStageName:2"]),
    ("FROM x AS scratch", ["ReservedStageName:1"]),
    ("FROM x AS context", ["ReservedStageName:1"]),
    ("FROM x\nCMD run me", ["JSONArgsRecommended:2"]),
    ("FROM x\nENTRYPOINT run me", ["JSONArgsRecommended:2"]),
    ('FROM x\nSHELL ["bash"]\nCMD run me', []),
    ("FROM x\nMAINTAINER me", ["MaintainerDeprecated:2"]),
    ("FROM x:${TAG:-1}", []),
    ("ARG TAG=1\nFROM x:$TGA", ["UnusedArg:1", "UndefinedArgInFrom:2", "InvalidDefaultArgInFrom:2"]),
    ("ARG TAG\nFROM x:$TAG", ["InvalidDefaultArgInFrom:2"]),
    ("ARG TAG=1\nFROM x:$TAG", []),
    ("FROM x\nWORKDIR sub\nWORKDIR more", ["WorkdirRelativePath:2"]),
    ("FROM x AS a\nWORKDIR /a\nFROM a\nWORKDIR sub", []),
    ("FROM x\nCOPY $foo /", ["UndefinedVar:2"]),
    ("FROM x\nARG foo\nCOPY $foo ${bar:-f} $HOME_DIR $HTTP_PROXY /", []),
    ("FROM x AS a\nARG foo\nFROM a\nCOPY $foo /", []),
    ("FROM x\nCOPY <<A /\n$b\nA", ["UndefinedVar:2"]),
    ("FROM x\nRUN $foo", []),
    ('FROM x\nCMD ["a"]\nCMD ["b"]', ["MultipleInstructionsDisallowed:2"]),
    ('FROM x\nCMD ["a"]\nFROM x\nCMD ["b"]', ["UnreachableStage:1"]),
    ("FROM x\nHEALTHCHECK NONE\nHEALTHCHECK CMD y", ["MultipleInstructionsDisallowed:2"]),
    ("FROM x\nENV A b", ["LegacyKeyValueFormat:2"]),
    ("FROM x\nLABEL A b", ["LegacyKeyValueFormat:2"]),
    ("FROM --platform=linux/arm64 x AS b", ["FromPlatformFlagConstDisallowed:1", "InvalidBaseImagePlatform:1"]),
    ("FROM --platform=linux/amd64 x AS for-amd64", []),
    ("FROM --platform=$BUILDPLATFORM x", []),
    ("FROM --platform=$TARGETPLATFORM x", ["RedundantTargetPlatform:1"]),
    ("FROM x\nARG DB_PASSWORD\nENV TOKEN=1", ["SecretsUsedInArgOrEnv:2", "SecretsUsedInArgOrEnv:3"]),
    ("FROM x\nENV KEY_FILE=1 PUBLIC_KEY=2 MONKEY=3", []),
    ("FROM x\nEXPOSE 80/TCP", ["ExposeProtoCasing:2"]),
    ("FROM x\nEXPOSE 127.0.0.1:80:80", ["ExposeInvalidFormat:2"]),
    ("FROM x\nCOPY --from=nothere a b", ["UndefinedStage:2"]),
    ("FROM x\nRUN --mount=target=/a,from=nothere b", ["UndefinedStage:2"]),
    ("FROM x AS build\nFROM x\nCOPY --from=biuld:1 a b\nCOPY --from=some/thing:1 a b", []),
    ("ARG A=1\nFROM x", ["UnusedArg:1"]),
    ("ARG A=1\nFROM x\nARG A", []),
    ("FROM x\nONBUILD RUN y\nONBUILD COPY $z /", []),
    ("# check=skip=all\nfrom x\nMAINTAINER me", []),
    ("# check=skip=MaintainerDeprecated\nfrom x\nMAINTAINER me", ["ConsistentInstructionCasing:2"]),
    ("FROM x\n# check=skip=MaintainerDeprecated\nMAINTAINER me", []),
    ("# check=experimental=all\n\n# other words\nFROM x AS b", ["InvalidDefinitionDescription:4"]),
    ("# check=experimental=all\n\n# b builds\nFROM x AS b\n# A is a\nARG A", []),
    ("\n# other words\nFROM x AS b", []),
]  # fmt: skip


@pytest.mark.parametrize(("text", "found"), BROKEN)
def test_rules(text: str, found: list[str]) -> None:
    assert [f"{each.rule}:{each.line}" for each in check(text)] == found


@pytest.mark.parametrize(
    ("ignore", "source", "found"),
    [
        ("a", "a", True), ("a", "a/b", True), ("a", "/a", True), ("*.md", "x.md", True), ("*.md", "d/x.md", False),
        ("**/*.md", "d/x.md", True), ("a\n!a/b", "a/b", False), ("a\n!a/b", "a", False), ("a", ".", False), ("*", ".", True),
        ("**", "/", True), ("# a", "a", False), ("", "a", False),
    ],
)  # fmt: skip
def test_a_copy_of_what_is_ignored(ignore: str, source: str, found: bool) -> None:
    for keyword in ("COPY", "ADD"):
        rules = [each.detail for each in check(f"FROM x\n{keyword} {source} /d/", ignore)]
        what = f'Attempting to {keyword.capitalize()} file "{source}" that is excluded by .dockerignore'
        assert rules == ([what] if found else [])
    assert check(f"FROM x AS b\nFROM x\nCOPY --from=b {source} /d/", ignore) == []


def test_details_are_dockers() -> None:
    (one,) = check("FROM x\nARG VERSION\nCOPY $VERSON /")
    assert one.detail == "Usage of undefined variable '$VERSON' (did you mean $VERSION?)"
    assert one.url == "https://docs.docker.com/go/dockerfile/rule/undefined-var/"
    (two,) = check("FROM y AS a\nFROM a\nCOPY $Z /")
    assert two.detail == "Usage of undefined variable '$Z' (image y is not here, and may set it)"
    (three,) = check("FROM x\nCMD a")
    assert three.url == "https://docs.docker.com/go/dockerfile/rule/json-args-recommended/"


def test_the_directive() -> None:
    options = options_of(
        parse(
            "# syntax=docker/dockerfile:1\n# check=skip=UndefinedVar, JSONArgsRecommended;error=true\nFROM x"
        )
    )
    assert options.error and options.skip == {"UndefinedVar", "JSONArgsRecommended"}
    for text, what in (
        ("skip=UndefinedVra", "did you mean UndefinedVar"),
        ("error=maybe", "there are skip="),
    ):
        with pytest.raises(BadDockerfile, match=what) as caught:
            check(f"# check={text}\nFROM x")
        assert caught.value.data["line"] == 1
