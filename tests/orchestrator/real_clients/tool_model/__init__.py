"""A model that calls tools by rules: it reads a rendered prompt, finds out what is asked, and writes what a model of
that family would. No network of weights, but nothing canned either: names and arguments come from the tools that it is
shown and from the question.

`prompts.py` reads, `planning.py` finds the tools in the order in which they are wanted, `filling.py` makes arguments
and other JSON by schema, `writing.py` has the grammars. `answer.py` joins them.
"""
