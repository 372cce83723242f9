"""What a shell completes: tried in a real bash, read by zsh and fish where they are installed."""

import argparse
import shutil
import subprocess

import pytest

import cli.main as cli
from cli.completion import SHELLS, script
from cli.options import COMMANDS, parser, parsers_of

ASK = """
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=()
_whyslow
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.fixture(scope="module")
def scripts():
    return {shell: script(shell, parsers_of(parser())) for shell in SHELLS}


@pytest.fixture(scope="module")
def completed(scripts, tmp_path_factory):
    """Return what bash offers for the last of the words."""
    if shutil.which("bash") is None:
        pytest.skip("no bash")
    folder = tmp_path_factory.mktemp("recordings")
    (folder / "my run.sqlite").touch()

    def offered(*words):
        ran = subprocess.run(
            ["bash", "-uc", scripts["bash"] + ASK, "bash", "whyslow", *words],
            capture_output=True,
            text=True,
            check=True,
            cwd=folder,
        )
        assert ran.stderr == ""
        return ran.stdout.split("\n")[:-1]

    return offered


def test_bash_completes_commands_options_choices_and_files(completed):
    assert set(completed("")) >= {command.name for command in COMMANDS}
    assert completed("dia") == ["diagnose"]
    assert set(completed("diagnose", "--")) >= {"--json", "--watch", "--window"}
    assert completed("report", "x", "--fo") == ["--force"]
    assert completed("capture", "--device", "c") == ["cpu", "cuda"]
    assert completed("completion", "z") == ["zsh"]
    assert completed("diagnose", "my") == ["my run.sqlite"]
    assert completed("diagnose", "--counters", "") == ["my run.sqlite"]
    assert completed("nonsense", "zz") == [""]


@pytest.mark.parametrize("shell", SHELLS)
def test_each_shell_reads_its_script_and_knows_every_command_and_option(shell, scripts, capsys):
    text = scripts[shell]
    for name, command in parsers_of(parser()).items():
        assert name in text
        shown = (a for a in command._actions if a.help != argparse.SUPPRESS)
        for option in (option for action in shown for option in action.option_strings):
            assert option.lstrip("-") in text
    assert cli.main(["completion", shell]) == 0
    assert capsys.readouterr().out == text
    if shutil.which(shell):
        subprocess.run([shell, "-n"], input=text, text=True, check=True, capture_output=True)
