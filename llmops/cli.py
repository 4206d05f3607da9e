"""The command line: one thin command per stage, plus run, serve, check and the rest. Imports no torch."""

from __future__ import annotations

import functools
import signal
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from llmops import __version__
from llmops.core.console import Console
from llmops.core.errors import LlmopsError
from llmops.core.threads import wait_asleep
from llmops.loop import LOOP, step

app = typer.Typer(
    name="llmops", no_args_is_help=True, rich_markup_mode=None, add_completion=False, pretty_exceptions_enable=False,
    help="Takes a model through its whole life: need, prepare, train, tune, compress, deploy, feedback.",
)  # fmt: skip

Config = Annotated[Path, typer.Argument(metavar="CONFIG", help="the project's YAML file", show_default=False)]
Set = Annotated[
    list[str] | None, typer.Option("--set", metavar="SECTION.KEY=VALUE", help="change a setting for this command")
]
RunId = Annotated[str | None, typer.Option("--run", metavar="ID", help="work on this run (its id or the start of it)")]
Json = Annotated[bool, typer.Option("--json", help="stdout holds the result as JSON, and nothing else")]
Import = Annotated[Path | None, typer.Option("--import", metavar="FILE", help="take feedback gathered elsewhere")]
IfDue = Annotated[
    bool, typer.Option("--if-due", help="for cron: feedback first, then the loop only if a trigger fired")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="say what would run and why; run nothing")]
ExitCode = Annotated[bool, typer.Option("--exit-code", help="end with 10 when work is due")]
Verbose = Annotated[bool, typer.Option("-v", "--verbose", help="say more")]
Quiet = Annotated[bool, typer.Option("-q", "--quiet", help="say only warnings and errors")]

OneRun = Annotated[str, typer.Argument(metavar="RUN", help="a run's id, or the start of it", show_default=False)]
OtherRun = Annotated[str, typer.Argument(metavar="OTHER", help="another run's id", show_default=False)]


class Terminated(BaseException):
    """SIGTERM arrived."""


def _terminate(*_: object) -> None:
    raise Terminated


def guarded(command: Callable[..., Any]) -> Callable[..., None]:
    """A command that ends with the exit code of what happened, and shows no traceback for a user's mistake."""

    @functools.wraps(command)
    def run(**options: Any) -> None:
        console = Console(options.get("quiet", False), options.get("verbose", False), options.get("json", False))
        signal.signal(signal.SIGTERM, _terminate)
        try:
            code = command(**options)
        except LlmopsError as error:
            console.error(error)
            code = error.exit_code
        except KeyboardInterrupt:
            console.say("interrupted; the same command carries on from here")
            code = 130
        except Terminated:
            console.say("terminated; the same command carries on from here")
            code = 143
        except Exception as error:
            console.error(
                LlmopsError(f"a bug in llmops: {type(error).__name__}: {error}", do="run again with -v and report it")
            )
            console.log(traceback.format_exc())
            code = 1
        raise typer.Exit(code or 0)

    return run


def _stage_command(name: str, briefly: str, does: str) -> None:
    def command(
        config: Config, set: Set = None, run: RunId = None, json: Json = False, dry_run: DryRun = False,
        exit_code: ExitCode = False, verbose: Verbose = False, quiet: Quiet = False,
    ) -> int:  # fmt: skip
        from llmops.commands.loop import run_upto

        return run_upto(_project(config, set), name, run, dry_run, exit_code, Console(quiet, verbose, json))

    app.command(name, help=_sentence(does), short_help=_sentence(briefly))(guarded(command))


def _sentence(words: str) -> str:
    return f"{words[0].upper()}{words[1:]}."


def _project(config: Path, overrides: list[str] | None) -> Any:
    from llmops.project import open_project

    return open_project(config, overrides or [])


for _row in LOOP:
    if _row.name != "feedback":
        _stage_command(_row.name, _row.briefly, _row.does)


@app.command(short_help=_sentence(step("feedback").briefly))
@guarded
def feedback(
    config: Config, set: Set = None, run: RunId = None,
    import_: Import = None, json: Json = False, dry_run: DryRun = False, exit_code: ExitCode = False,
    verbose: Verbose = False, quiet: Quiet = False,
) -> int:  # fmt: skip
    """Reads the traffic: quality, drift, corrections; says whether a retrain is due."""
    from llmops.commands.loop import read_feedback

    return read_feedback(_project(config, set), run, import_, dry_run, exit_code, Console(quiet, verbose, json))


@app.command("run", short_help="Turns the loop, skips what's done.")
@guarded
def run_loop(
    config: Config, set: Set = None, run: RunId = None,
    if_due: IfDue = False, json: Json = False, dry_run: DryRun = False, exit_code: ExitCode = False,
    verbose: Verbose = False, quiet: Quiet = False,
) -> int:  # fmt: skip
    """Walks the whole loop, doing only what is not done."""
    from llmops.commands.loop import run_if_due, run_upto

    console = Console(quiet, verbose, json)
    if if_due:
        return run_if_due(_project(config, set), dry_run, exit_code, console)
    return run_upto(_project(config, set), "feedback", run, dry_run, exit_code, console)


@app.command(short_help="Writes a config for your data.")
@guarded
def init(
    folder: Annotated[Path, typer.Argument(help="where the config goes")] = Path(),
    data: Annotated[Path, typer.Option("--data", help="a table, chats, a text, or a folder of texts")] = ...,  # type: ignore[assignment]
    project: Annotated[str | None, typer.Option(help="name of the project")] = None,
    text: Annotated[str | None, typer.Option(help="column with the text (the question, the document)")] = None,
    label: Annotated[str | None, typer.Option(help="column with the label (the answer)")] = None,
    task: Annotated[str | None, typer.Option(help="what the data is for; recognised when absent")] = None,
    json: Json = False, quiet: Quiet = False,
) -> None:  # fmt: skip
    """Looks at your data and writes a commented config that works unchanged."""
    from llmops import starter

    console = Console(quiet, json=json)
    path = starter.write(folder, data, project, text, label, task)
    console.say(f"wrote {path}")
    console.say(f"next:  llmops run {path}")
    if json:
        console.result({"config": str(path)})


@app.command(short_help="Serves the champion over HTTP.")
@guarded
def serve(
    config: Config, set: Set = None, run: RunId = None,
    host: Annotated[str | None, typer.Option(help="address to bind")] = None,
    port: Annotated[int | None, typer.Option(min=0, max=65535, help="port; 0 takes a free one")] = None,
    verbose: Verbose = False, quiet: Quiet = False,
) -> None:  # fmt: skip
    """Serves the champion (or the bundle of --run); swaps to a new champion without dropping a request."""
    from llmops.commands.serve import serve_project

    serve_project(_project(config, set), run, host, port, Console(quiet, verbose))


@app.command(short_help="Answers every row of a file.")
@guarded
def predict(
    config: Config, file: Annotated[Path, typer.Argument(help="texts, prompts or chats: CSV, JSONL")], set: Set = None,
    out: Annotated[Path | None, typer.Option("--out", help="where the answers go; default: FILE.answers.jsonl")] = None,
    run: RunId = None, json: Json = False, verbose: Verbose = False, quiet: Quiet = False,
) -> None:  # fmt: skip
    """Answers every row of a file with the champion (or the bundle of --run)."""
    from llmops.commands.predict import predict_file

    predict_file(_project(config, set), file, out, run, Console(quiet, verbose, json))


@app.command(short_help="Finds every mistake in a config.")
@guarded
def check(config: Config, set: Set = None, json: Json = False, quiet: Quiet = False) -> None:
    """Checks the config; reports every mistake at once."""
    from llmops.planner import check_all, steps_upto

    project = _project(config, set)
    check_all(project, steps_upto(project, "feedback"))
    console = Console(quiet, json=json)
    console.say(f"{config} is right: {', '.join(row.name for row in steps_upto(project, 'feedback'))}")
    if json:
        console.result({"ok": True, "config": str(config)})


@app.command(short_help="Explains a section or setting.")
@guarded
def explain(
    key: Annotated[str, typer.Argument(help="a section or setting, such as train.learning_rate")] = "",
    task: Annotated[str | None, typer.Option(help="of this task alone, such as text-classification")] = None,
) -> None:
    """Explains a section or a setting of the config."""
    from llmops.commands.explain import explain_key

    Console().result(explain_key(key, task))


@app.command(short_help="Prints a config's JSON schema.")
@guarded
def schema() -> None:
    """Prints the JSON schema of a config, for editors."""
    from llmops.commands.explain import json_schema

    Console().result(json_schema())


@app.command()
@guarded
def doctor(json: Json = False) -> None:
    """Says what this machine can do."""
    from llmops.commands.doctor import examine

    console = Console(json=json)
    table, plain = examine()
    console.result(plain) if json else console.table(table)


@app.command(short_help="Lists the runs.")
@guarded
def runs(config: Config, set: Set = None, json: Json = False) -> None:
    """Lists the runs: when, what was done, how good it was."""
    from llmops.commands.history import list_runs

    list_runs(_project(config, set), Console(json=json))


@app.command(short_help="Shows a run's figures.")
@guarded
def show(
    config: Config,
    run: Annotated[str, typer.Argument(help="a run's id")] = "latest",
    set: Set = None,
    json: Json = False,
) -> None:
    """Shows a run: every stage's figures and warnings."""
    from llmops.commands.history import show_run

    show_run(_project(config, set), run, Console(json=json))


@app.command(short_help="Shows how two runs differ.")
@guarded
def compare(config: Config, run: OneRun, other: OtherRun, set: Set = None, json: Json = False) -> None:
    """Compares two runs: settings and figures that differ."""
    from llmops.commands.history import compare_runs

    compare_runs(_project(config, set), run, other, Console(json=json))


@app.command(short_help="Makes a run's bundle the champion.")
@guarded
def promote(config: Config, run: OneRun, set: Set = None, json: Json = False) -> None:
    """Makes the bundle of a run the champion, by hand and without the gates."""
    from llmops.commands.champion import promote_run

    promote_run(_project(config, set), run, Console(json=json))


@app.command()
@guarded
def rollback(
    config: Config, version: Annotated[int | None, typer.Argument(help="default: the champion before this one")] = None,
    set: Set = None, json: Json = False,
) -> None:  # fmt: skip
    """Brings an earlier champion back."""
    from llmops.commands.champion import roll_back

    roll_back(_project(config, set), version, Console(json=json))


@app.command(short_help="Removes what nothing needs any more.")
@guarded
def clean(
    config: Config, keep: Annotated[int, typer.Option(min=0, help="newest runs to keep, needed or not")] = 3,
    yes: Annotated[bool, typer.Option("--yes", help="really remove")] = False, set: Set = None, json: Json = False,
) -> None:  # fmt: skip
    """Removes what no champion, version or kept run needs; without --yes it only says what and how much."""
    from llmops.commands.clean import clean_project

    clean_project(_project(config, set), keep, yes, Console(json=json))


@app.callback(invoke_without_command=True)
def _version(version: Annotated[bool, typer.Option("--version", help="print the version and end")] = False) -> None:
    if version:
        Console().result(f"llmops {__version__}")
        raise typer.Exit


def main() -> None:
    """The entry point of the `llmops` command."""
    wait_asleep()
    app()


if __name__ == "__main__":
    main()
