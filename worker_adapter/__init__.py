"""The command-line program: composes the host and the adapters by plugin name.

`cli.py` is the entry, `command_group.py` mounts commands without importing them, `commands/` holds one file per
command, `exit_codes.py` and `reporting.py` say how each ends, `engine_options.py` finds the adapter that a URL or a
name means, `engine_command.py` asks it one question, `demo/` is the show. Behind single commands: `submission.py` and
`task_input.py` (`submit`), `tensor_input.py` and `tensor_output.py` (`infer`), `checkup.py` and `reachability.py`
(`doctor`), `trials.py` and `determinism.py` (`determinism`).
"""
