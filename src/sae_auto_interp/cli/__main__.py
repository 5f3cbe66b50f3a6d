"""`python -m sae_auto_interp.cli`: the same as the installed command."""

from sae_auto_interp.cli import main

main()
