"""Completion scripts for bash and zsh, made from the command line's own parser. Pure."""

__all__ = ["script"]

import argparse

_BASH = """\
# bash completion for {program}; use it with: source <({program} completion bash)
_{function}() {{
    local current=${{COMP_WORDS[COMP_CWORD]}} previous=${{COMP_WORDS[COMP_CWORD-1]}} command= word
    for word in "${{COMP_WORDS[@]:1:COMP_CWORD-1}}"; do
        case $word in {commands_or}) command=$word; break;; esac
    done
    case $previous in
        -o|--output) COMPREPLY=($(compgen -W "table wide json name" -- "$current")); return;;
        -c|--config|-s|--socket) COMPREPLY=($(compgen -f -- "$current")); return;;
    esac
    case $command in
        "") COMPREPLY=($(compgen -W "{commands} --help --version" -- "$current"));;
{cases}    esac
}}
complete -o filenames -F _{function} {program}
"""
_ZSH = """\
#compdef {program}
# zsh completion for {program}; use it with: source <({program} completion zsh)
autoload -U +X bashcompinit && bashcompinit
{bash}"""


def script(shell: str, program: str, parsers: dict[str, argparse.ArgumentParser]) -> str:
    """The script for ``bash`` or ``zsh`` (which runs the bash one in its own compatibility mode)."""
    cases = "".join(
        f'        {name}) COMPREPLY=($(compgen {_candidates(parser, program)} -- "$current"));;\n' for name, parser in parsers.items()
    )
    bash = _BASH.format(
        program=program,
        function=program.replace("-", "_"),
        commands=" ".join(parsers),
        commands_or="|".join(parsers),
        cases=cases,
    )
    return bash if shell == "bash" else _ZSH.format(program=program, bash=bash)


def _candidates(parser: argparse.ArgumentParser, program: str) -> str:
    """Arguments of compgen: the options of a command, and its groups, files or choices."""
    words, more = [], ""
    for action in parser._actions:  # noqa: SLF001  argparse has no public way to ask a parser what it takes
        words += [option for option in action.option_strings if option.startswith("--")]
        if action.dest == "group":
            words.append(f"$({program} status -o name 2>/dev/null)")
        elif not action.option_strings and action.choices:
            words += map(str, action.choices)
        elif not action.option_strings and action.dest == "file":
            more = "-f "
    return f'{more}-W "{" ".join(words)}"'
