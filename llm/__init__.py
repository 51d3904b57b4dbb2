"""
Evidence in, annotation out: rules, prompt, constrained decoding and the worker process that holds the model.

The core process uses :mod:`llm.rules` and :mod:`llm.client`, with :mod:`llm.supervisor` and :mod:`llm.turns` below it;
only the worker process imports :mod:`llm.engine`.
"""
