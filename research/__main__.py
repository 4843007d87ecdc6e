"""`python -m research TABLE` runs rows of a table again; `--report` makes docs/results.md."""

from research.commands import main

main()
