"""lithe cache: the compiled models that are kept on disk."""

from __future__ import annotations

import time
from typing import Any

import click

from lithe.cli.output import bytes_text, print_json, table


@click.group("cache")
def command() -> None:
    """List or clear the compiled models on disk."""


@command.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def show(as_json: bool) -> None:
    """List the entries, the most recently used first."""
    facts = contents()
    if as_json:
        print_json("cache", facts)
        return
    for entry in facts["entries"]:
        entry["when"] = time.strftime("%Y-%m-%d %H:%M", time.localtime(entry["used"]))
    if facts["entries"]:
        click.echo(table([(e["when"], bytes_text(e["bytes"]), e["name"]) for e in facts["entries"]], right=(1,)))
    state = f" ({facts['reason']})" if facts["reason"] else ""
    click.echo(f"{len(facts['entries'])} entries, {bytes_text(facts['bytes'])}, in {facts['directory']}{state}")


@command.command("clear")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def clear(as_json: bool) -> None:
    """Delete all entries; models are compiled again when they are next run."""
    from lithe.runtime.cache import Cache

    before = contents()
    gone = Cache().clear()
    if as_json:
        print_json("cache", {"removed": gone, "bytes": before["bytes"], "directory": before["directory"]})
    else:
        click.echo(f"removed {gone} entries, {bytes_text(before['bytes'])}")


def contents() -> dict[str, Any]:
    """Where the cache lies, what is in it, and why it is off if it is."""
    from lithe.runtime.cache import Cache

    cache = Cache()
    entries = [{"name": e.name, "bytes": e.size, "used": e.used} for e in cache.entries()]
    directory = str(cache.directory) if cache.directory else None
    return {"directory": directory, "reason": cache.reason, "bytes": cache.size(), "entries": entries}
