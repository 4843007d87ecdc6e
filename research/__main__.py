"""`python -m research TABLE`: run rows of a table again."""

from research.commands import main

main()
