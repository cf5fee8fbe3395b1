"""What an operator does to a city after a fault, with the commands that operators have."""

from __future__ import annotations

from tests.faults.fault import Trial


async def look_into_log(trial: Trial) -> None:
    """Do what an operator does with a city that only verifies: check its log, then allow it to sign."""
    await run_command(trial, "fsck")
    await run_command(trial, "allow-signing", "--yes")


async def run_command(trial: Trial, *words: str) -> None:
    """Run a command of the city's operator."""
    config = str(trial.city.folder / "config.toml")
    status, said = await trial.world.nursery.command("city_node.cli", *words, "--config", config)
    if status:
        raise AssertionError(f"{words[0]} ended with {status}: {said.strip()}")
