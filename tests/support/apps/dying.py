"""A module that takes down every process that imports it, and leaves a line for each."""

import os

with open(os.environ["DYING_LEAVES_A_LINE_IN"], "a") as file:
    file.write(f"{os.getpid()}\n")
os._exit(17)
