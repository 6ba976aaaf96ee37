"""What the shell completes: verbs, parts, options and actions, those of the user included."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from advunlearn.cli import VERBS, main
from advunlearn.cli.completion import OVERRIDES, SCRIPTS, completed
from advunlearn.config.compose import experiment_from
from advunlearn.config.part_files import files, groups
from advunlearn.runtime.terminal import FLAGS
from tests.config.test_own_parts import yaml_of


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("advunlearn ru", ["run "]),
        ("advunlearn --wide ru", ["run "]),
        ("advunlearn run unlearner=sc", ["unlearner=scrub "]),
        ("advunlearn run un", ["unlearner.", "unlearner="]),
        ("advunlearn check seed=1 mod", ["model.", "model="]),
        ("advunlearn run unlearner=salun unlearner.s", ["unlearner.schedule=", "unlearner.share="]),
        ("advunlearn run unlearner.alp", ["unlearner.alpha="]),
        ("advunlearn run attack=[lira,rm", ["attack=[lira,rmia"]),
        ("advunlearn compare unlearner=sg,sal", ["unlearner=sg,salun"]),
        ("advunlearn run attack=rmia attack.rm", ["attack.rmia."]),
        ("advunlearn run attack.shad", ["attack.shadows="]),
        ("advunlearn run auditor=lo", ["auditor=logistic "]),
        ("advunlearn run original.", ["original.path=", "original.run="]),
        ("advunlearn run see", ["seed=", "seeds."]),
        ("advunlearn run --w", ["--wide "]),
        ("advunlearn describe unlearner sc", ["scrub "]),
        ("advunlearn store v", ["verify "]),
        ("advunlearn report outp", []),  # then the shell completes the names of files
        ("advunlearn nonsense x", []),
    ],
)
def test_what_completes_a_line(line: str, expected: list[str]) -> None:
    assert completed(line) == expected


def test_every_verb_and_part_is_known() -> None:
    assert {word.strip() for word in completed("advunlearn ")} >= set(VERBS)
    for group in groups():
        names = [f"{group}={name} " for name in files(group, [])]
        assert completed(f"advunlearn run {group}=") == sorted(names)


def test_every_completed_option_exists() -> None:
    words = ("unlearner.", "model.", "optimizer.", "attack.lira.", "dataset.", "forget.", "original.")
    keys = [key for word in words for key in completed(f"advunlearn run {word}")]
    config = experiment_from([]).config
    assert len(keys) > 20
    for key in keys:
        node = config
        for name in key.removesuffix("=").split("."):
            assert name in node, key
            node = node[name]


def test_own_parts_are_completed(workplace: Path) -> None:
    Path("my/unlearner").mkdir(parents=True)
    Path("my/unlearner/shrink.yaml").write_text(yaml_of("mymethods.Scale"), encoding="utf-8")
    for flag in ("--config-dir my", "--config-dir=my"):
        assert completed(f"advunlearn run {flag} unlearner=shr") == ["unlearner=shrink "]


def test_in_bash_only_what_follows_the_equals_sign_is_inserted() -> None:
    code = SCRIPTS["bash"] + (
        'answer() { [ "$3" = "advunlearn run unlearner=s" ] && printf "unlearner=sg \\nunlearner=ssd \\n"; }\n'
        'for line in "advunlearn run unlearner=s" "advunlearn report x"; do\n'
        "COMP_LINE=$line COMP_POINT=${#line} COMP_WORDS=(answer)\n"
        '_advunlearn; echo "${#COMPREPLY[@]}:${COMPREPLY[*]}"\ndone'
    )
    done = subprocess.run(["bash", "-c", code], capture_output=True, text=True)
    assert done.stdout == "2:sg  ssd \n0:\n", done.stderr


def test_the_scripts_are_printed_with_what_they_call(capsys: pytest.CaptureFixture[str]) -> None:
    for shell, script in SCRIPTS.items():
        assert main(["completion", shell]) == 0
        assert capsys.readouterr().out == script
    assert main(["completion", "words", "advunlearn run unlearner=sc"]) == 0
    assert capsys.readouterr().out == "unlearner=scrub \n"


@pytest.mark.parametrize("verb", [verb for verb in OVERRIDES if verb not in ("run", "unlearn")])
def test_the_flags_of_a_verb_are_those_of_its_help(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([verb, "--help"])
    options = capsys.readouterr().out.split("options:")[1].split("\n\n")[0]
    flags = {flags.split()[-1] for flags in re.findall(r"^  (-\S+(?:, --\S+)?)", options, re.M)}
    assert {flag.rstrip(",") for flag in flags} - {"-h", "--help", *FLAGS} == set(OVERRIDES[verb])
