"""How models are fitted, and the files of a run. A model names its trainer; trainers.py has the table of them."""
