"""``elicense bench``: what is measured rather than tested.

How a measurement is put together, for whoever adds one:

- :mod:`~elicense.cli.bench.house` runs what is measured, as real processes on
  loopback: a registry filled with synthetic licences, and a bare gRPC echo on
  the same server stack;
- :mod:`~elicense.cli.bench.drive` is the load: calls as bytes, made beforehand,
  so that the driver costs little beside the server;
- a :class:`~elicense.cli.bench.rounds.Row` is one line of the answer: a name, a
  coroutine that does one round of work and returns how many units of it there
  were, and the processes whose CPU pays for it;
- :func:`~elicense.cli.bench.rounds.measure` runs all rows of a measurement in
  turn, round after round, so that whatever else the machine does weighs on all
  alike, and returns :class:`~elicense.cli.bench.rounds.Figure` values;
- a row names its *reference*, another row of the same run: what is quoted is
  the ratio of the two, round by round;
- a row that does something else besides names the row that does that alone, whose
  CPU is taken off;
- :mod:`~elicense.cli.bench.report` prints figures as Markdown or JSON.

:mod:`~elicense.cli.bench.pilot` and :mod:`~elicense.cli.bench.scale` are no rows: one
lets a whole nation catch up once, the other measures registries of many sizes.

A new sub-command is a module with a click command, named in
:mod:`~elicense.cli.bench.command`.
"""
