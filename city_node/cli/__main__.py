"""Lets ``python -m city_node.cli`` stand for ``elicense-city``."""

from city_node.cli import main

main()
