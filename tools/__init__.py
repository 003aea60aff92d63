"""The tools the model can call, one a module.

The folder stands at the top of the repository and is installed as ``kimi_cli.tools``; imported
under its bare name it would be a second copy with its own classes.
"""

if not __name__.startswith("kimi_cli."):
    raise ImportError("import kimi_cli.tools, not the bare tools folder")
